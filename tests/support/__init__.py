"""What the tests share: a real registry, real images, the real command, and the leak check."""
