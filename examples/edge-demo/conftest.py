"""What wallets needs to be imported: as in production, but for the key store, which no test ever asks."""

import os
from pathlib import Path

os.environ.setdefault("S2S_MESH_ISSUER", "http://127.0.0.1:8102")
os.environ.setdefault("S2S_MESH_TRUST_FILE", str(Path(__file__).parents[2] / "trust" / "trust.toml"))
os.environ.setdefault("S2S_MESH_KEY_STORE", "memory://")
