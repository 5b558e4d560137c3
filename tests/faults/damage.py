"""Ways to damage a file."""


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def alter(path):
    """Change one byte; the size stays."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x11
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")
