"""The demo, and every speed and quality figure that the README quotes."""
