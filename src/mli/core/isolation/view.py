"""What of this device a contained process sees: Python, the libraries of the work, and what its job is about."""

from __future__ import annotations

import importlib.util
import os
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mli.config.settings import PipelineSettings
from mli.pipeline.sources.image_files import EXTENSIONS, Below, fixed_part, lies_inside, matches
from mli.types import ModelSpec

PACKAGES = ("mli", "numpy", "cv2", "onnxruntime", "onnx", "ai_edge_litert", "openvino")
"""What workers and sandboxed jobs import; each may lie outside of site-packages where someone works on it."""
SYSTEM_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""On most systems they are links into /usr."""
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")
STORES = ("/nix/store", "/gnu/store")
"""Where the systems that have no /usr keep their programs."""
NETWORK_FILES = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
)
SYSTEM_PLACES = ("/usr", "/etc", "/run", "/proc", "/dev", "/sys", "/boot", "/var/run")
LINKS_FOLLOWED = 1000
"""Links to images elsewhere, of one source."""


@dataclass(frozen=True, slots=True)
class View:
    """What one process sees beside the runtime.

    Attributes:
        readable: files and folders, at the paths where the process looks for them; one that is missing is left out.
        linked: the same, found by way of links: left out where they lie in what is hidden.
        writable: folders that it may change.
        devices: device files, ``/dev/video0``.
        network: whether it has one.
    """

    readable: tuple[Path, ...] = ()
    linked: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    devices: tuple[str, ...] = ()
    network: bool = False


def worker_view(settings: PipelineSettings, model: ModelSpec) -> View:
    """What a pipeline's worker sees: its model, and its images."""
    folders = [Path(model.directory)]
    if model.compiled_file is not None:
        folders.append(Path(model.compiled_file).parent)
    if settings.source.kind != "images":
        return View(readable=tuple(folders))
    images = image_paths(settings.source.uri, settings.source.below)
    return View(readable=(*folders, *images.own), linked=images.linked)


@cache
def runtime_paths() -> tuple[Path, ...]:
    """Folders and files from which this Python, and what a worker imports, come; /usr is not among them."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    sites = {entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")}
    libraries = {entry for entry in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if entry}
    paths = {Path(entry) for entry in prefixes | sites | libraries if entry.startswith("/")}
    paths |= {Path(store) for store in STORES if Path(store).is_dir()}
    for package in PACKAGES:
        paths |= package_paths(package)
    paths |= _hops(Path(sys.executable))
    paths |= {path.resolve() for path in paths}  # a folder of packages may be a link
    return tuple(sorted(path for path in _outermost(paths) if not path.is_relative_to("/usr") and path != Path("/")))


def package_paths(package: str) -> set[Path]:
    """Where a package lies, without importing it."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return set()
    if spec is None:
        return set()
    if spec.submodule_search_locations is not None:
        return {Path(folder).absolute() for folder in spec.submodule_search_locations}
    return {Path(spec.origin).absolute()} if spec.origin and spec.has_location else set()


@dataclass(frozen=True, slots=True)
class ImagePaths:
    """What a source of images reads.

    Attributes:
        own: the folder that its deployment names.
        linked: images, and folders of a glob, elsewhere, to which links lead. Whoever may put an image there may put
            a link there: nothing of the system's, or of the core's own, is seen by way of one.
    """

    own: tuple[Path, ...]
    linked: tuple[Path, ...] = ()


def image_paths(uri: str, below: Below = None) -> ImagePaths:
    """What a source reads: the folder of its images, and images elsewhere that links in it lead to.

    Args:
        uri: folder, glob or file.
        below: nothing that lies elsewhere is seen; see ``SourceSettings``.
    """
    found = _image_paths(uri, below)
    if below is None:
        return found
    own, linked = (
        tuple(path for path in paths if lies_inside(str(path), below)) for paths in (found.own, found.linked)
    )
    return ImagePaths(own, linked)


def _image_paths(uri: str, below: Below) -> ImagePaths:
    path = Path(os.path.abspath(uri))  # noqa: PTH100 - pathlib would keep `..`
    if path.is_dir():
        return ImagePaths((path,), _harmless(_linked_images(path)))
    if path.exists() or path.is_symlink():
        # The folder and not the file: a file may be replaced by another of its name.
        targets = {target.parent for target in _hops(path)}
        return ImagePaths((path.parent,), _harmless(targets - {path.parent}))
    fixed = fixed_part(path)
    folders = {fixed, *(Path(found).parent for found in matches(uri, below))}
    links = {folder for folder in folders if folder != fixed and folder.is_symlink()}
    targets = {hop for link in links for hop in _hops(link)}
    targets |= {target for folder in folders for target in _linked_images(folder)}
    # What lies in the source's own folder is seen with it; nothing can be bound over a link in there.
    return ImagePaths((fixed,), _harmless(target for target in targets if not target.is_relative_to(fixed)))


def _linked_images(folder: Path) -> set[Path]:
    """Where links lead, out of a folder, that a source would read as images."""
    targets: set[Path] = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink() and entry.name.lower().endswith(EXTENSIONS) and _is_file(entry.path):
                    targets |= {hop for hop in _hops(Path(entry.path)) if not hop.is_relative_to(folder)}
                if len(targets) >= LINKS_FOLLOWED:
                    break
    except OSError:
        pass  # the source says it better
    return targets


def _is_file(path: str) -> bool:
    """Whether a link leads to a file; one in a circle leads nowhere."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - the error is looked at here
    except OSError:
        return False


def _harmless(targets: Iterable[Path]) -> tuple[Path, ...]:
    """Those through which nothing of the system is seen that is not seen anyway."""
    return tuple(sorted(target for target in targets if not _is_system(Path(os.path.realpath(target)))))


def _is_system(path: Path) -> bool:
    """Whether a path is a part of the system or of the runtime, or a folder above one."""
    places = (*map(Path, (*SYSTEM_FOLDERS, *SYSTEM_PLACES)), *runtime_paths())
    return any(path.is_relative_to(place) or place.is_relative_to(path) for place in places)


def _hops(path: Path) -> set[Path]:
    """Every place where a chain of links leads through, ``path`` itself among them."""
    hops: set[Path] = set()
    path = path.absolute()
    while path not in hops:
        hops.add(path)
        if not path.is_symlink():
            break
        path = Path(os.path.normpath(path.parent / path.readlink()))
    return hops


def _outermost(paths: Iterable[Path]) -> set[Path]:
    """Without those that lie in another one."""
    found = set(paths)
    return {path for path in found if not any(parent in found for parent in path.parents)}
