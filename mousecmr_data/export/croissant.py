"""Write Croissant 1.1, the machine-readable description of a release (https://docs.mlcommons.org/croissant)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
from huggingface_hub import constants

from mousecmr_data._utils.atomic import dump_json
from mousecmr_data._utils.text import SYNTHETIC_DATA, format_count
from mousecmr_data.adapters import huggingface
from mousecmr_data.adapters.huggingface import Column, Config
from mousecmr_data.export.card import TAGS, make_release_bibtex
from mousecmr_data.export.release import Release, Shard, get_license_url

REPOSITORY = "repo"
"""The file object that contains all others: ``mlcroissant.Dataset(..., mapping={"repo": folder})`` reads a folder."""
_NO_HASH = "https://github.com/mlcommons/croissant/issues/80"
"""Stands for the SHA-256 that the specification requires and a git repository does not have; the hub writes the same.

Each file has its own SHA-256.
"""
CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
_TYPES = {"string": "sc:Text", "bool": "sc:Boolean", "float64": "sc:Float", "int16": "sc:Integer"}
_KEYS = (
    "arrayShape citeAs column containedIn equivalentProperty extract field fileProperty fileObject "
    "fileSet format includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex "
    "repeated replace samplingRate separator source subField transform"
)
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "conformsTo": "dct:conformsTo",
    **{key: f"cr:{key}" for key in _KEYS.split()},
}
"""The context given in the specification."""


def render_croissant(release: Release, written: Sequence[Shard]) -> str:
    """Return the text of croissant.json."""
    return dump_json(describe_release(release, written))


def describe_release(release: Release, written: Sequence[Shard]) -> dict[str, Any]:
    """Return the description as a JSON-LD object."""
    manifest = release.manifest
    home = f"{constants.ENDPOINT}/datasets/{release.name}"
    images = sum(m.images for m in release.mice)
    mice = format_count(len(release.mice), "mouse")
    about = f"Short-axis cine MRI of {mice} ({images} 2D images) with masks of the left ventricle."
    configs = [c for c in huggingface.CONFIGS if any(s.config == c for s in written)]
    description: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": release.title,
        "description": f"{SYNTHETIC_DATA} {about}" if release.synthetic else about,
        "conformsTo": CONFORMS_TO,
        "license": get_license_url(manifest.licence) or manifest.licence,
        "url": home,
        "version": f"0.0.0+{manifest.version}",
        "citeAs": make_release_bibtex(release),
        "keywords": [*(["synthetic"] if release.synthetic else []), *TAGS],
        "isLiveDataset": False,
        "creator": [
            {"@type": "sc:Person", "name": f"{a['given']} {a['family']}", "givenName": a["given"]}
            for a in manifest.paper.get("authors", ())
        ]
        or [{"@type": "sc:Organization", "name": "not stated"}],
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": REPOSITORY,
                "name": REPOSITORY,
                "description": "The repository on the hub; locally, the folder with this file.",
                "contentUrl": home,
                "encodingFormat": "git+https",
                "sha256": _NO_HASH,
            },
            *(
                {
                    "@type": "cr:FileObject",
                    "@id": shard.path,
                    "name": shard.path,
                    "containedIn": {"@id": REPOSITORY},
                    "contentUrl": shard.path,
                    "contentSize": f"{shard.bytes} B",
                    "encodingFormat": "application/x-parquet",
                    "sha256": shard.sha256,
                }
                for shard in written
            ),
            *(
                {
                    "@type": "cr:FileSet",
                    "@id": f"{config}-files",
                    "name": f"{config}-files",
                    "containedIn": {"@id": REPOSITORY},
                    "encodingFormat": "application/x-parquet",
                    "includes": f"{config}/*.parquet",
                }
                for config in configs
            ),
        ],
        "recordSet": [_describe_record_set(c) for c in configs],
    }
    if manifest.released:
        description["datePublished"] = manifest.released
    if manifest.homepage:
        description["sameAs"] = manifest.homepage
    return description


def _describe_record_set(config: Config) -> dict[str, Any]:
    keys = [{"@id": f"{config}/{name}"} for name in ("mouse", "frame", "slice")]
    return {
        "@type": "cr:RecordSet",
        "@id": config,
        "name": config,
        "description": huggingface.ABOUT[config],
        "key": keys[0] if config == "cines" else keys,
        "field": [_describe_field(config, column) for column in huggingface.COLUMNS[config]],
    }


def _describe_field(config: Config, column: Column) -> dict[str, Any]:
    feature = column.feature
    source: dict[str, Any] = {"fileSet": {"@id": f"{config}-files"}, "extract": {"column": column.name}}
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{config}/{column.name}",
        "name": column.name,
        "description": column.about,
    }
    if isinstance(feature, datasets.Image | datasets.Nifti):
        source["transform"] = {"jsonPath": "bytes"}
        field["dataType"] = "sc:ImageObject" if isinstance(feature, datasets.Image) else "sc:Text"
    elif isinstance(feature, datasets.List):
        shape = str(feature.length) if feature.length > 0 else "-1"
        field |= {"dataType": _TYPES[feature.feature.dtype], "isArray": True, "arrayShape": shape}
    else:
        field["dataType"] = _TYPES[feature.dtype]
    return {**field, "source": source}
