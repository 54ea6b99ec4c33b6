"""What a person writes by hand: a Parquet file through onnxruntime, batch by batch as pyarrow gives them.

python scripts/bench_loop.py MODEL ROWS OUTPUT
"""

import sys

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq

model, rows, output = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
writer = None
for batch in pq.ParquetFile(rows).iter_batches():
    if batch.num_columns > 1:
        x = np.stack([column.to_numpy() for column in batch.columns], axis=1)
    else:
        x = batch.column(0).flatten().to_numpy().reshape(batch.num_rows, -1)
    (y,) = session.run(None, {name: x})
    table = pa.table({"y": pa.FixedSizeListArray.from_arrays(pa.array(y.reshape(-1)), y.shape[1])})
    writer = writer or pq.ParquetWriter(output, table.schema)
    writer.write_table(table)
writer.close()
