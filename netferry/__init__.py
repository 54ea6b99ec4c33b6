"""netferry carries a trained model from one framework to another and proves that it arrived."""

__version__ = "0.1.0"
