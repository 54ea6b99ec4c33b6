"""Any model of TensorFlow as one graph of constants: in float64, and with each operation's result moved by chance."""
