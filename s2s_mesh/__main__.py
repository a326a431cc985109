"""`python -m s2s_mesh` is `s2s-mesh`."""

from .cli import main

if __name__ == "__main__":
    main()
