"""Sending an artifact and fetching it, beside other programs that do so; and an update of it after its libc has changed.

    python -m tests.bench.sharing ARTIFACT PEERS [ROUNDS]

ARTIFACT is a folder in the store that BUILDER_STORE names, PEERS the artifact of tests/bench/peers.py. The builder and rclone
use a bucket on loopback (seaweedfs), nix a file cache with zstd, casync a local store of chunks. All start with nothing there.
The update is the same tree in which each library and interpreter of libc6 has other bytes; what it moves is counted, and beside
it stands what those files come to, compressed one by one. Wanted: at most 1.1 times that.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import zstandard

from store import resolve, trees
from store.artifacts import Folder, check_out
from store.files import directory
from store.manifest import File, Manifest, Node
from store.parcels import LEVEL
from store.store import Store
from tests.bench.timing import compare, seconds
from tests.sharing.servers import seaweedfs

LIBC = ("ld.so", "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libresolv.so.2", "libutil.so.1")


def bytes_below(place: Path) -> int:
    """The sizes of all files."""
    return sum((Path(folder) / name).lstat().st_size for folder, _, names in os.walk(place) for name in names)


def files_below(place: Path) -> int:
    """How many files there are."""
    return sum(len(names) for _, _, names in os.walk(place))


class Bench:
    """One artifact, its update, and the ways to move them."""

    def __init__(self, source: Path, peers: Path, work: Path, address: str, environment: dict[str, str]) -> None:
        self.peers = peers / "bin"
        self.work = work
        self.address = address
        # rclone can do nothing with it.
        ours = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
        self.environment = {**ours, **environment, "HOME": str(work), "XDG_CONFIG_HOME": str(work / "config")}
        self.count = 0
        # A store that holds the artifact and its update, and nothing else.
        self.store = Store(work / "store")
        theirs = Store(Path(os.environ["BUILDER_STORE"]))
        named = resolve.resolve(theirs, str(source))
        with self.store.batch() as batch, directory(named.path) as fd:
            tree = trees.take_in(batch, fd, move=False)
            batch.add_manifest(tree)
        self.first = check_out(self.store, tree, name=named.folder.name, version=named.folder.version)
        self.changed: list[bytes] = []
        nodes: list[tuple[bytes, Node]] = []
        with self.store.batch() as batch:
            for path, node in tree.entries:
                if isinstance(node, File) and path.rpartition(b"/")[2].decode("utf-8", "replace") in LIBC:
                    data = self.store.read_blob(node.blob)
                    # What a compiler would do to it, as far as compression goes: here and there another instruction.
                    data = b"".join(data[at : at + 4000] + os.urandom(8) for at in range(0, len(data), 4008))[: len(data)]
                    self.changed.append(data)
                    node = batch.add_bytes(data, executable=node.executable)
                nodes.append((path, node))
            update = Manifest(nodes)
            batch.add_manifest(update)
        self.second = check_out(self.store, update, name=named.folder.name, version=named.folder.version + "+1")

    def fresh(self) -> str:
        """A name that nothing has yet."""
        self.count += 1
        return f"n{self.count}"

    def run(self, *words: str | Path, **more: str) -> str:
        """A program of the peers."""
        command = [self.peers / str(words[0]), *words[1:]]
        return subprocess.run(
            command, env={**self.environment, **more}, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ).stdout

    def builder(self, store: Path, *words: str | Path) -> str:
        """The command line."""
        command = [sys.executable, "-m", "builder", "--store", store, *words]
        return subprocess.run(
            command, env=self.environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ).stdout

    # -- the ways --

    def remote(self) -> str:
        """A bucket's folder that has nothing yet."""
        return self.address.format(self.fresh())

    def push(self, remote: str, artifact: Path) -> int:
        """Push, and give the bytes that were moved."""
        said = self.builder(self.store.root, "push", remote, artifact, "--no-sign", "--no-outputs", "--json")
        return int(json.loads(said)["moved"]["bytes"])

    def pull(self, remote: str, artifact: Path, store: Path) -> None:
        """Pull by the folder's name."""
        folder = Folder.parse(artifact.name)
        assert folder is not None
        self.builder(store, "pull", remote, str(folder), "--no-link")

    @staticmethod
    def nix_variables(place: Path) -> dict[str, str]:
        """A store of nix for an ordinary user, below ``place``."""
        (place / "etc").mkdir(parents=True, exist_ok=True)
        (place / "etc/nix.conf").write_text(
            "experimental-features = nix-command\nbuild-users-group =\nrequire-sigs = false\nsandbox = false\nsubstituters =\n"
        )
        names = {"STORE": "store", "STATE": "var", "LOG": "log", "CONF": "etc", "LOCALSTATE": "var", "DATA": "data"}
        return {f"NIX_{name}_DIR": str(place / folder) for name, folder in names.items()}

    def nix_add(self, place: Path, artifact: Path) -> str:
        """Into a store of nix; gives the path there."""
        return self.run("nix", "store", "add-path", artifact, "--name", "artifact", **self.nix_variables(place)).strip()

    def nix_push(self, place: Path, cache: Path, path: str) -> None:
        """To a file cache."""
        self.run(
            "nix",
            "copy",
            "--to",
            f"file://{cache}?compression=zstd&parallel-compression=true",
            path,
            **self.nix_variables(place),
        )

    def rclone(self, *words: str | Path) -> None:
        """With the bucket as remote `there`."""
        endpoint = self.address.partition("endpoint=")[2].partition("&")[0]
        self.run(
            "rclone", *words,
            RCLONE_CONFIG_THERE_TYPE="s3", RCLONE_CONFIG_THERE_PROVIDER="Other", RCLONE_CONFIG_THERE_ENV_AUTH="true",
            RCLONE_CONFIG_THERE_ENDPOINT=endpoint, RCLONE_S3_NO_CHECK_BUCKET="true",
        )  # fmt: skip


def times(bench: Bench, rounds: int) -> None:
    """Both ways of the whole artifact."""
    there = bench.remote()
    bench.push(there, bench.first)
    nix, cache = bench.work / "nix", bench.work / "cache"
    path = bench.nix_add(nix, bench.first)
    bench.nix_push(nix, cache, path)
    chunks = bench.work / "chunks"
    bench.run("casync", "make", f"--store={chunks}", bench.work / "first.caidx", bench.first)
    bucket_name = bench.address.removeprefix("s3://").partition("/")[0]
    bench.rclone("copy", "--links", "--transfers=16", bench.first, f"there:{bucket_name}/rclone")

    def timed(work: Callable[[Path], object]) -> Callable[[], float]:
        def once() -> float:
            place = bench.work / bench.fresh()
            place.mkdir()
            taken = seconds(lambda: work(place))
            subprocess.run(["chmod", "-R", "u+w", place], check=True)
            shutil.rmtree(place)
            return taken

        return once

    print("sending:")
    compare(
        rounds,
        {
            "builder push, to a bucket": timed(lambda _: bench.push(bench.remote(), bench.first)),
            "nix copy, to a folder, zstd": timed(lambda place: bench.nix_push(nix, place, path)),
            "casync make, to a folder": timed(
                lambda place: bench.run("casync", "make", f"--store={place}/chunks", place / "x.caidx", bench.first)
            ),
            "rclone copy, to a bucket": timed(
                lambda place: bench.rclone(
                    "copy", "--links", "--transfers=16", bench.first, f"there:{bucket_name}/{place.name}"
                )
            ),
        },
    )
    print("fetching:")
    compare(
        rounds,
        {
            "builder pull, from a bucket": timed(lambda place: bench.pull(there, bench.first, place / "store")),
            "nix copy, from a folder, zstd": timed(
                lambda place: bench.run(
                    "nix", "copy", "--from", f"file://{cache}", "--to", f"local?root={place}", path, **bench.nix_variables(nix)
                )
            ),
            "casync extract, from a folder": timed(
                lambda place: bench.run("casync", "extract", f"--store={chunks}", bench.work / "first.caidx", place / "out")
            ),
            "rclone copy, from a bucket": timed(
                lambda place: bench.rclone("copy", "--links", "--transfers=16", f"there:{bucket_name}/rclone", place)
            ),
        },
    )


def update(bench: Bench) -> None:
    """What an update moves."""
    ideal = sum(len(zstandard.ZstdCompressor(level=LEVEL).compress(data)) for data in set(bench.changed))
    print(f"an update of {len(set(bench.changed))} libraries, which are {ideal / 1e6:.2f} MB when each is compressed alone:")
    there = bench.remote()
    whole = bench.push(there, bench.first)
    moved = bench.push(there, bench.second)
    store = bench.work / "puller"
    bench.pull(there, bench.first, store)
    print(f"builder push: {moved / 1e6:.2f} MB of {whole / 1e6:.2f} MB, {moved / ideal:.3f} times that (wanted: at most 1.1)")
    nix, cache = bench.work / "nix", bench.work / "cache"
    before = bytes_below(cache)
    bench.nix_push(nix, cache, bench.nix_add(nix, bench.second))
    after = bytes_below(cache)
    print(f"nix copy: {(after - before) / 1e6:.2f} MB of {before / 1e6:.2f} MB, {(after - before) / ideal:.3f} times that")
    chunks = bench.work / "chunks"
    before, count = bytes_below(chunks), files_below(chunks)
    bench.run("casync", "make", f"--store={chunks}", bench.work / "second.caidx", bench.second)
    moved = bytes_below(chunks) - before + (bench.work / "second.caidx").stat().st_size
    print(f"casync make: {moved / 1e6:.2f} MB of {before / 1e6:.2f} MB in {count} objects, {moved / ideal:.3f} times that")


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[3]) if sys.argv[3:] else 3
    with tempfile.TemporaryDirectory() as top:
        try:
            work = Path(top, "server")
            work.mkdir()
            with seaweedfs(Path(sys.argv[2]).resolve(), work) as server:
                bench = Bench(
                    Path(sys.argv[1]), Path(sys.argv[2]).resolve(), Path(top), server.direct, dict(server.environment)
                )
                times(bench, rounds)
                update(bench)
        finally:
            subprocess.run(["chmod", "-R", "u+w", top], check=True)


if __name__ == "__main__":
    main()
