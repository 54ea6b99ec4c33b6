"""The inputs on which a verdict is found."""
