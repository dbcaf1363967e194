"""Bills of materials: what is in an artifact and what it was built from, in the two forms that others read.

Nothing in them comes from a clock or from chance: the same artifact gives the same text.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder import VERSION
from builder.materials import Material
from store.digest import Digest
from store.manifest import Manifest, show

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from spdx_tools.spdx.model import File as Listed
    from spdx_tools.spdx.model import Package


@dataclass(frozen=True, slots=True)
class Part:
    """A package or source behind an artifact: ``used`` says that it is in there, else it only took part in the build.

    ``licences`` are short names, as its own copyright file has them.
    """

    material: Material
    used: bool
    licences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bill:
    """An artifact and its parts.

    ``time`` is in seconds since 1970. With ``read``, which gives a file's bytes, files are listed.
    """

    name: str
    version: str
    digest: Digest
    time: int
    manifest: Manifest
    parts: tuple[Part, ...]
    read: Callable[[Digest], bytes] | None = None

    @property
    def sha256(self) -> str:
        """That of the manifest's bytes, for those who know no BLAKE3."""
        return hashlib.sha256(self.manifest.encode()).hexdigest()

    @property
    def created(self) -> datetime.datetime:
        """When, as a date."""
        return datetime.datetime.fromtimestamp(self.time, datetime.UTC)

    @property
    def uuid(self) -> uuid.UUID:
        """A name for the bill that only its content decides."""
        return uuid.uuid5(uuid.NAMESPACE_URL, f"urn:builder:{self.digest}:{self.time}:{self.read is not None}")


def cyclonedx(bill: Bill) -> str:
    """As CycloneDX 1.6, in JSON. What only took part in the build has the scope "excluded"."""
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository
    from cyclonedx.output.json import JsonV1Dot6

    hashes = [
        HashType(alg=HashAlgorithm.BLAKE3, content=bill.digest.hex),
        HashType(alg=HashAlgorithm.SHA_256, content=bill.sha256),
    ]
    artifact = Component(
        name=bill.name, version=bill.version, type=ComponentType.APPLICATION, bom_ref=str(bill.digest), hashes=hashes
    )
    tool = Component(name="builder", version=VERSION, type=ComponentType.APPLICATION, bom_ref=f"builder {VERSION}")
    metadata = BomMetaData(component=artifact, timestamp=bill.created, tools=ToolRepository(components=[tool]))
    parts = [_component(part) for part in bill.parts]
    if bill.read is not None:
        for path, node in bill.manifest.files:
            content = hashlib.sha256(bill.read(node.blob)).hexdigest()
            both = [
                HashType(alg=HashAlgorithm.BLAKE3, content=node.blob.hex),
                HashType(alg=HashAlgorithm.SHA_256, content=content),
            ]
            parts.append(Component(name=show(path), type=ComponentType.FILE, bom_ref=f"file {show(path)}", hashes=both))
    bom = Bom(components=parts, serial_number=bill.uuid, metadata=metadata)
    bom.register_dependency(artifact, [made for made, part in zip(parts, bill.parts, strict=False) if part.used])
    return str(JsonV1Dot6(bom).output_as_string(indent=2)) + "\n"


def _component(part: Part) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentScope, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense
    from packageurl import PackageURL

    material = part.material
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=material.sha256)] if material.sha256 else []
    return Component(
        name=material.name,
        version=material.version or None,
        type=ComponentType.LIBRARY if material.kind == "deb" else ComponentType.FILE,
        bom_ref=_reference(material),
        scope=ComponentScope.REQUIRED if part.used else ComponentScope.EXCLUDED,
        hashes=hashes,
        licenses=[DisjunctiveLicense(name=name) for name in part.licences],
        purl=PackageURL.from_string(material.purl) if material.purl else None,
        properties=[
            Property(name="builder:tree", value=str(material.tree)),
            Property(name="builder:kind", value=material.kind),
        ],
    )


def _reference(material: Material) -> str:
    return f"{material.label} {material.sha256 or material.tree}"


def spdx(bill: Bill) -> str:
    """As SPDX 2.3, in JSON. What only took part in the build is a build dependency."""
    from spdx_tools.spdx.model import (
        Actor,
        ActorType,
        CreationInfo,
        Document,
        ExtractedLicensingInfo,
        Relationship,
        RelationshipType,
    )
    from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream

    files = _files(bill)
    packages = [_artifact_package(bill, files), *(_package(part, number) for number, part in enumerate(bill.parts))]
    top = packages[0].spdx_id
    relations = [Relationship("SPDXRef-DOCUMENT", RelationshipType.DESCRIBES, top)]
    for package, part in zip(packages[1:], bill.parts, strict=True):
        if part.used:
            relations.append(Relationship(top, RelationshipType.CONTAINS, package.spdx_id))
        else:
            relations.append(Relationship(package.spdx_id, RelationshipType.BUILD_DEPENDENCY_OF, top))
    relations += [Relationship(top, RelationshipType.CONTAINS, file.spdx_id) for file in files]
    known = sorted({name for part in bill.parts for name in part.licences})
    document = Document(
        CreationInfo(
            spdx_version="SPDX-2.3",
            spdx_id="SPDXRef-DOCUMENT",
            name=f"{bill.name}-{bill.version}",
            document_namespace=f"urn:uuid:{bill.uuid}",
            creators=[Actor(ActorType.TOOL, f"builder-{VERSION}")],
            created=bill.created,
        ),
        packages=packages,
        files=files,
        relationships=relations,
        extracted_licensing_info=[
            ExtractedLicensingInfo(_licence_reference(name), f"Called {name} in a Debian package's copyright file.", name)
            for name in known
        ],
    )
    text = io.StringIO()
    # Tests have the library check it: the reasons that it gives are for us, not for users.
    write_document_to_stream(document, text, validate=False, drop_duplicates=False)
    return json.dumps(json.loads(text.getvalue()), indent=2) + "\n"


def _artifact_package(bill: Bill, files: Sequence[Listed]) -> Package:
    from spdx_tools.spdx.model import (
        Checksum,
        ChecksumAlgorithm,
        Package,
        PackagePurpose,
        PackageVerificationCode,
        SpdxNoAssertion,
    )

    sums = "".join(sorted(file.checksums[0].value for file in files))

    return Package(
        "SPDXRef-artifact",
        bill.name,
        SpdxNoAssertion(),
        version=bill.version,
        files_analyzed=bool(files),
        verification_code=PackageVerificationCode(hashlib.sha1(sums.encode()).hexdigest()) if files else None,  # noqa: S324
        # The library's check believes that a BLAKE3 has 256 digits.
        checksums=[Checksum(ChecksumAlgorithm.SHA256, bill.sha256)],
        comment=str(bill.digest),
        primary_package_purpose=PackagePurpose.APPLICATION,
    )


def _package(part: Part, number: int) -> Package:
    from license_expression import get_spdx_licensing
    from spdx_tools.spdx.model import (
        Checksum,
        ChecksumAlgorithm,
        ExternalPackageRef,
        ExternalPackageRefCategory,
        Package,
        SpdxNoAssertion,
    )

    material = part.material
    declared: Any = SpdxNoAssertion()
    if part.licences:
        declared = get_spdx_licensing().parse(" AND ".join(map(_licence_reference, part.licences)))
    references = []
    if material.purl:
        category = ExternalPackageRefCategory.PACKAGE_MANAGER
        references = [ExternalPackageRef(category, "purl", material.purl)]
    return Package(
        f"SPDXRef-{number}",
        material.name,
        SpdxNoAssertion(),
        version=material.version or None,
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, material.sha256)] if material.sha256 else [],
        source_info=f"{material.kind}; its tree in the store is {material.tree}",
        license_declared=declared,
        external_references=references,
    )


def _licence_reference(name: str) -> str:
    """Debian's names of licences are not SPDX's: each is a name of the document's own."""
    return "LicenseRef-Debian-" + "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "-" for c in name)


def _files(bill: Bill) -> list[Listed]:
    from spdx_tools.spdx.model import Checksum, ChecksumAlgorithm
    from spdx_tools.spdx.model import File as Listed

    if bill.read is None:
        return []
    found = []
    for number, (path, node) in enumerate(bill.manifest.files):
        data = bill.read(node.blob)
        # The format asks for SHA-1 of every file.
        sums = [
            Checksum(ChecksumAlgorithm.SHA1, hashlib.sha1(data).hexdigest()),  # noqa: S324
            Checksum(ChecksumAlgorithm.SHA256, hashlib.sha256(data).hexdigest()),
        ]
        found.append(Listed(f"./{show(path)}", f"SPDXRef-file-{number}", sums, comment=str(node.blob)))
    return found
