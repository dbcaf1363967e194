"""`builder lock`: from the names of Debian packages to a lock, through the suite's signed index."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence

import pysequoia

from builder import release as releases
from builder.deb822 import BadParagraph, paragraphs
from builder.fetch import Download, Fetcher
from builder.lockfile import Lock
from builder.progress import Progress
from builder.release import Indexed, Release, WrongRelease
from builder.resolve import FIELDS, BadIndex, Index, resolve
from builder.streams import BadStream, Bounds, pieces

# Debian's largest index has 60 MB; ten times that is something else.
_BOUNDS = Bounds(total=1 << 30, ratio=100, free=64 << 20)
_ENDINGS = (".xz", ".gz", "")


def lock(
    fetcher: Fetcher,
    progress: Progress,
    names: Sequence[str],
    *,
    suite: str,
    exclude: Sequence[str] = (),
    components: Sequence[str] = ("main",),
    architecture: str = "amd64",
    essential: bool = False,
    keys: Iterable[pysequoia.Cert] | None = None,
) -> Lock:
    """Pin ``names`` and all that they need to what ``suite`` has today.

    ``exclude`` cuts dependencies; with ``essential``, the packages that Debian takes for granted are taken as well.
    ``keys`` are believed instead of Debian's. Raises Untrusted, WrongRelease, BadIndex, UnknownPackage, Unsatisfied and what
    fetching raises.
    """
    release = fetch_release(fetcher, suite, components, architecture, releases.debian_keys() if keys is None else keys)
    wanted = [_index_file(release, suite, component, architecture) for component in components]
    index = _read_indexes(fetcher, progress, release, suite, wanted)
    packages = resolve(index, [*names, *(index.essential if essential else ())], exclude)
    return Lock(
        suite=suite,
        components=tuple(components),
        architecture=architecture,
        date=release.date,
        names=tuple(sorted(set(names))),
        excluded=tuple(sorted(set(exclude))),
        packages=tuple(packages),
    )


def fetch_release(
    fetcher: Fetcher, suite: str, components: Sequence[str], architecture: str, keys: Iterable[pysequoia.Cert]
) -> Release:
    """The suite's InRelease, verified, from the first mirror that has a good one. Raises Untrusted and WrongRelease."""
    keys = list(keys)
    now = datetime.datetime.now(datetime.UTC)
    found: list[Release] = []

    def check(data: bytes) -> None:
        release = releases.parse(releases.verify(data, keys, now))
        releases.check(release, suite, components, architecture, now)
        found.append(release)

    fetcher.fetch_bytes(f"mirror://debian/dists/{suite}/InRelease", releases.MAX_SIZE, check)
    return found[0]


def _index_file(release: Release, suite: str, component: str, architecture: str) -> Indexed:
    for ending in _ENDINGS:
        if file := release.files.get(f"{component}/binary-{architecture}/Packages{ending}"):
            return file
    raise WrongRelease(f"{suite} names no list of packages for {component} and {architecture}")


def _read_indexes(fetcher: Fetcher, progress: Progress, release: Release, suite: str, wanted: Iterable[Indexed]) -> Index:
    top = f"mirror://debian/dists/{suite}"
    downloads = []
    for file in wanted:
        places = [f"{top}/{file.path}"]
        if release.by_hash:
            # A mirror that is just being updated has the old file under its hash still.
            places.insert(0, f"{top}/{file.path.rpartition('/')[0]}/by-hash/SHA256/{file.sha256}")
        downloads.append(Download(f"{suite} {file.path}", tuple(places), file.sha256, file.size))
    stanzas: list[dict[str, str]] = []
    for download, path in fetcher.fetch(downloads):
        with progress.task("read", download.name), open(path, "rb") as source:
            try:
                stanzas += paragraphs(pieces(source, _BOUNDS), only=FIELDS)
            except (BadStream, BadParagraph) as error:
                raise BadIndex(download.name, error.message) from None
    return Index(stanzas)
