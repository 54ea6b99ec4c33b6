"""TorchScript under a trace: the code of a scripted or traced module, interpreted node by node."""
