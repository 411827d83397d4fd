"""Builds wheels with the compiled replay kernel, for the platform they are built on.

Without a C compiler the wheel is made without it and the kernel is compiled on first use; see
docs/decisions/0021-the-replay-kernel-is-c.md.
"""

from __future__ import annotations

import sys
import sysconfig
import tempfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

REPLAY = Path("budsim/performance/serving/replay")


class KernelBuildHook(BuildHookInterface[Any]):
    """Compiles the kernel into the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the library to a wheel and name the wheel's platform.

        Editable installs compile it on first use.
        """
        if version == "editable" or self.target_name != "wheel":
            return
        native = _native(Path(self.root))
        self.folder = tempfile.TemporaryDirectory()
        name = native.library_name(native.source_digest())
        library = Path(self.folder.name) / name
        try:
            native.compile_kernel(library)
        except native.Unavailable as error:
            self.app.display_warning(f"wheel without the compiled replay kernel: {error}")
            return
        build_data["force_include"][str(library)] = str(REPLAY / name)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform()}"

    def finalize(
        self,
        version: str,  # noqa: ARG002
        build_data: dict[str, Any],  # noqa: ARG002
        artifact_path: str,  # noqa: ARG002
    ) -> None:
        """Remove the library's folder."""
        if hasattr(self, "folder"):
            self.folder.cleanup()


def _native(root: Path) -> ModuleType:
    """Load the module that compiles, without the packages the rest of budsim needs."""
    sys.path.insert(0, str(root))
    spec = spec_from_file_location("replay_native", root / REPLAY / "native.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _platform() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
