"""QuPath's files, field by field, and its scripts: what its classes read, and Debian's Groovy to run what it would run.

The schemas follow QuPath's source (0.6 to 0.8). What QuPath sets to null, or leaves out, may be absent; what it would
stop at must be there.
"""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import jsonschema
import pytest

STAND_IN = Path(__file__).parent / "qupath_stand_in"

FILE_URI = {"type": "string", "pattern": "^file:/", "not": {"pattern": "[^!-~]"}}
COLOR = {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}


def an_object(required, **optional):
    """Schema of an object that has these fields and no other."""
    return {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
        "additionalProperties": False,
    }


# DefaultProject.loadProject asks for the two times without looking whether they are there, and for a version or a last
# number; the fields of an image are those of DefaultProject.DefaultProjectImageEntry, of which `metadata` is copied.
PROJECT = an_object(
    {
        "version": {"type": "string", "pattern": r"^[0-9]+\.[0-9]+\.[0-9]+"},
        "createTimestamp": {"type": "integer", "minimum": 10**12},
        "modifyTimestamp": {"type": "integer", "minimum": 10**12},
        "uri": FILE_URI,
        "lastID": {"type": "integer", "minimum": 0},
        "images": {
            "type": "array",
            "items": an_object(
                {
                    # DefaultImageServerBuilder: `args` must be a list, `providerClassName` may be missing.
                    "serverBuilder": an_object(
                        {
                            "builderType": {"const": "uri"},
                            "uri": FILE_URI,
                            "args": {"type": "array", "items": {"type": "string"}},
                        },
                        providerClassName={"type": "string"},
                        metadata={"type": "object"},
                    ),
                    "entryID": {"type": "integer", "minimum": 1},
                    "randomizedName": {"type": "string", "format": "uuid"},
                    "imageName": {"type": "string", "minLength": 1},
                    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                },
                description={"type": "string"},
                tags={"type": "array", "items": {"type": "string"}},
            ),
        },
    }
)
# DefaultProject.loadPathClasses.
CLASSES = an_object(
    {"pathClasses": {"type": "array", "items": an_object({"name": {"type": "string", "minLength": 1}}, color=COLOR)}}
)


def check(content, schema):
    """Compare with a schema, formats included."""
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(content)


def groovy(*arguments, command="groovy"):
    """Run Groovy, or its compiler, and return what it printed; skip where it is not installed."""
    if not shutil.which("groovy") or not shutil.which("java"):
        pytest.skip("groovy is not installed")
    java = Path(shutil.which("java")).resolve().parents[1]
    environment = os.environ | {"JAVA_HOME": str(java), "JAVA_OPTS": "-Dfile.encoding=UTF-8", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [command, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@functools.cache
def stand_in():
    """Return where the stand-in of QuPath's classes is, compiled."""
    folder = Path(tempfile.mkdtemp(prefix="pathseg-groovy-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    groovy("-d", folder, *STAND_IN.rglob("*.groovy"), command="groovyc")
    return folder


def run_script(project, name, open_image=None):
    """Run a script of a project by the stand-in of QuPath's classes; `open_image` is the number of an image."""
    options = [f"-Dproject={project}", *([f"-Dopen={open_image}"] if open_image else [])]
    return groovy("-cp", stand_in(), *options, project / "scripts" / f"{name}.groovy")
