"""What of this device a contained process sees: Python, the libraries of the work, and what its job is about."""

from __future__ import annotations

import glob
import importlib.util
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mli.config.settings import PipelineSettings
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
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
"""As the source has them; it cannot be asked without the libraries of the work."""
EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
"""As in the source of images, which is not imported here: it would load OpenCV into the core."""
LINKS_FOLLOWED = 1000
"""Links to images elsewhere, of one source."""


@dataclass(frozen=True, slots=True)
class View:
    """What one process sees beside the runtime.

    Attributes:
        readable: files and folders, at the paths where the process looks for them; one that is missing is left out.
        source: the folder that the deployment itself names; seen unless it is a link into what is hidden.
        linked: where links in that folder lead, which whoever may write there has made: never seen where they lead
            into what is hidden, into the system, or to a folder around something else that is seen.
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
    images = image_paths(settings.source.uri)
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


def image_paths(uri: str) -> tuple[Path, tuple[Path, ...]]:
    """What a source of images reads: the folder that it names, and images elsewhere that links in it lead to.

    Args:
        uri: folder, glob or file.
    """
    path = Path(os.path.abspath(uri))  # noqa: PTH100 - pathlib would keep `..`
    if path.is_dir():
        return path, _sorted_outside(path, _file_targets(_links_in(path)))
    if path.exists() or path.is_symlink():
        # The folder and not the file: a file may be replaced by another of its name.
        return path.parent, _sorted_outside(path.parent, (hop.parent for hop in _file_targets([path])))
    fixed = Path(*path.parts[: next((i for i, part in enumerate(path.parts) if glob.has_magic(part)), None)])
    found = [Path(name) for name in glob.iglob(str(path), recursive=True) if _is_image_name(name)]
    folders = {folder for image in found for folder in image.parents if folder.is_relative_to(fixed)}
    links = (folder for folder in folders - {fixed} if folder.is_symlink())
    through = {hop for link in links for hop in _hops(link) if hop.is_dir()}
    images = _file_targets(image for image in found if image.is_symlink())
    return fixed, _sorted_outside(fixed, through | images)


def _links_in(folder: Path) -> Iterable[Path]:
    """The links in a folder that its source would read: it takes no other names, and no hidden files."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink() and not entry.name.startswith(".") and _is_image_name(entry.name):
                    yield Path(entry.path)
    except OSError:
        pass  # the source says it better


def _is_image_name(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def _file_targets(links: Iterable[Path]) -> set[Path]:
    """Where links lead through to regular files; a source reads nothing else, so nothing else is worth seeing."""
    targets: set[Path] = set()
    for link in links:
        targets |= {hop for hop in _hops(link) if _is_file(hop)} if _is_file(link) else set()
        if len(targets) >= LINKS_FOLLOWED:
            break
    return targets


def _sorted_outside(folder: Path, paths: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(sorted({path for path in paths if not path.is_relative_to(folder)}))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # what may not be looked at
        return False


def _hops(path: Path) -> set[Path]:
    """Every place where a chain of links leads through, ``path`` itself among them."""
    hops: set[Path] = set()
    path = path.absolute()
    while path not in hops:
        hops.add(path)
        try:
            path = Path(os.path.normpath(path.parent / path.readlink()))
        except OSError:  # no link; or one that was just taken away
            break
    return hops


def _outermost(paths: Iterable[Path]) -> set[Path]:
    """Without those that lie in another one."""
    found = set(paths)
    return {path for path in found if not any(parent in found for parent in path.parents)}
