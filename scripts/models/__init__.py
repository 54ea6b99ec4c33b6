"""The models that people bring, as data, and the page of what becomes of them."""
