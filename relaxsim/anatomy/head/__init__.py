"""The built-in head: labels drawn from shapes and random traits."""
