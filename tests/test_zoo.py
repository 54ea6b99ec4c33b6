"""The reference models: their data, their training, and what stays behind."""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from netferry.converters.errors import MissingError, NetferryError, RefusedError, UsageError, WriteError
from netferry.zoo import data, idx
from netferry.zoo import train as training
from netferry.zoo.catalog import CATALOG, ModelSpec, named
from netferry.zoo.train import TRAINERS, measure, reload, train, trainer

from .conftest import TrainedZoo

FRAMEWORKS = tuple(TRAINERS)
CELLS = [(name, framework) for framework in FRAMEWORKS for name in CATALOG]
SEQUENCES = [name for name, spec in CATALOG.items() if spec.data == "digit-rows"]
