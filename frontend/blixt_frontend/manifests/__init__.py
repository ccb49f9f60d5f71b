"""A file or folder of manifests as a source: the very YAML or JSON that `kubectl apply` takes.

watching -> scanning -> parsing (yaml12) -> merging -> source
"""

from blixt_frontend.manifests.parsing import ManifestError
from blixt_frontend.manifests.source import ManifestSource

__all__ = ["ManifestError", "ManifestSource"]
