"""Sum up how long the jobs took, and with which settings and versions.

Outputs
-------
times, times_html : TSV and HTML
    For each rule the jobs, their seconds, the longest of them, and the most memory that one took.
figure : PNG
    The same.
settings, settings_html : TSV and HTML
    Every key of the configuration with its value, defaults among them.
versions, versions_html : TSV and HTML
    Of pathseg, Python, and the packages here.
"""

import platform
from collections.abc import Collection, Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pathseg import __version__
from pathseg.cohort.plans import whole_plan
from pathseg.figures import save_figure
from pathseg.logs import start_log
from pathseg.table_files import read_table, save_table


def read_times(folder: Path, jobs: Collection[str]) -> pd.DataFrame:
    """Read the records of jobs that Snakemake has written, and sum them up by rule, the longest first.

    Parameters
    ----------
    folder
        A record is `RULE.tsv` or `RULE/JOB.tsv`.
    jobs
        Those that the workflow has now; records of others are left out.

    Returns
    -------
    pandas.DataFrame
        `rule`, `jobs`, `seconds`, `longest_seconds`, `memory_mib` (the most that a job held).
    """
    rows = []
    for path in sorted(folder.rglob("*.tsv")):
        rule, *job = path.relative_to(folder).as_posix().removesuffix(".tsv").split("/", 1)
        if not set(job) <= set(jobs):
            continue
        record = read_table(path, numbers=["s", "max_rss"]).iloc[-1]
        rows.append({"rule": rule, "seconds": record["s"], "memory_mib": record["max_rss"]})
    records = pd.DataFrame(rows, columns=["rule", "seconds", "memory_mib"]).groupby("rule")
    times = records.agg(
        jobs=("seconds", "size"),
        seconds=("seconds", "sum"),
        longest_seconds=("seconds", "max"),
        memory_mib=("memory_mib", "max"),
    )
    return times.sort_values("seconds", ascending=False).reset_index().round(1)


def draw_times(times: pd.DataFrame) -> Figure:
    """Draw minutes and memory of each rule."""
    figure = Figure(figsize=(10, 1.2 + 0.36 * len(times)))
    left, right = figure.subplots(1, 2, sharey=True)
    names = [f"{row.rule} ({row.jobs})" if row.jobs > 1 else row.rule for row in times.itertuples()]
    for axes, values, texts, label in (
        (left, times["seconds"] / 60, times["seconds"].map(duration_text), "minutes, all jobs together"),
        (right, times["memory_mib"] / 1024, None, "memory of the largest job, GiB"),
    ):
        bars = axes.barh(names, values, color="#0072B2")
        axes.bar_label(bars, texts, fmt="%.1f", padding=3)
        axes.margins(x=0.15)
        axes.set_xlabel(label)
    left.invert_yaxis()
    return figure


def duration_text(seconds: float) -> str:
    """Say a time in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def flat(settings: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the values of nested settings with their keys, joined by dots."""
    if isinstance(settings, dict) and settings:
        for name, value in settings.items():
            yield from flat(value, f"{key}.{name}" if key else str(name))
    elif isinstance(settings, list) and settings and isinstance(settings[0], dict):
        for number, value in enumerate(settings, start=1):
            yield from flat(value, f"{key}.{number}")
    else:
        yield key, str(settings)


def versions() -> list[tuple[str, str]]:
    """Return what runs here: names and versions."""
    packages = sorted({(package.name.lower(), package.version) for package in distributions()})
    return [("pathseg", __version__), ("python", platform.python_version()), ("system", platform.platform()), *packages]


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    output, params = snakemake.output, snakemake.params
    times = read_times(Path(params.benchmarks), set(params.jobs))
    settings = pd.DataFrame(flat(whole_plan(params.settings, snakemake.input.get("plan"))), columns=["key", "value"])
    packages = pd.DataFrame(versions(), columns=["package", "version"])
    for name, table in {"times": times, "settings": settings, "versions": packages}.items():
        save_table(table, output[name], output[f"{name}_html"])
    save_figure(draw_times(times), output.figure)
    log.info("%d jobs took %.0f minutes together", times["jobs"].sum(), times["seconds"].sum() / 60)
