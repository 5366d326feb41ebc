"""The image that --sdm apptainer runs jobs in: not looked at without, and named where it is missing."""


def test_without_apptainer_an_image_changes_nothing(project):
    (project.folder / "pathseg.sif").touch()
    assert project.planned() == {}


def test_a_missing_image_is_named(finished):
    said = finished.snakemake("--sdm", "apptainer", "--dry-run", check=False)
    assert "--sdm apptainer: " in said
    assert "pathseg.sif does not exist; docs/install.md says how it is made" in said
    assert "Traceback" not in said
