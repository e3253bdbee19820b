"""Where the files of a directory archive would lie is tried, and only where there are any."""

from pathlib import Path

from reconciler.doctor.staging import WHERE
from tests.doctor.standing import errors, said, stand

DIRECTORY = ", format: directory, staging: {{path: ./staging, most: {most}}}"


def test_a_folder_that_will_do(tmp_path: Path) -> None:
    """It is made, tried, and left as it was."""
    checkup = stand(tmp_path, dumps=DIRECTORY.format(most="1MiB")).examine()

    assert [True] == [what.startswith("room for 1.0 MiB") for what in said(checkup, WHERE)]
    assert [] == list((tmp_path / "staging").iterdir())


def test_a_folder_without_room(tmp_path: Path) -> None:
    """It is an error before any dump fails of it."""
    checkup = stand(tmp_path, dumps=DIRECTORY.format(most="900TiB")).examine()

    assert ["make room, name another folder as dumps.staging.path, or allow less"] == [
        finding.cure for finding in errors(checkup) if finding.where == WHERE
    ]


def test_streams_need_none(tmp_path: Path) -> None:
    """Nothing is said, and nothing is made."""
    checkup = stand(tmp_path).examine()

    assert [] == [finding for finding in checkup.findings if finding.where == WHERE]
    assert [] == said(checkup, WHERE)
