"""MXNet: its files are read and written in numpy alone; mxnet itself is imported only by ``live``."""
