"""A CSV of paths: `cases.csv` with the columns `image` and `label`, perhaps `case`."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from medvision.data.readers.base import Declared, Entry, Listing
from medvision.data.readers.layout import known_modality, test_entries
from medvision.data.text import read_text
from medvision.errors import DataError


class CsvReader:
    """Paths are relative to the folder or absolute. Several columns whose names begin with `image`
    are the channels of one image, in their order; test cases are those of MSD's imagesTs.
    """

    listing = "cases.csv"

    def knows(self, folder: Path) -> bool:
        return (folder / self.listing).is_file()

    def read(self, path: Path) -> Listing:
        try:
            with io.StringIO(read_text(path), newline="") as file:
                rows = csv.DictReader(file, skipinitialspace=True)
                columns = list(rows.fieldnames or ())
                images = [name for name in columns if name.startswith("image")]
                if not images or "label" not in columns:
                    raise DataError(f"{path}:1: its header must name image and label")
                entries = [_entry(path, rows.line_num, row, images) for row in rows]
        except (OSError, UnicodeError, csv.Error) as error:
            raise DataError(f"{path}: cannot be read as a list of cases: {error}") from error
        layout = f"{self.listing}: a case is a line, its channels are {', '.join(images)}"
        return Listing(tuple(entries), test_entries(path.parent), layout=layout)

    def declared(self, folder: Path) -> Declared:
        return known_modality(folder)


def _entry(path: Path, line: int, row: dict[str, str | None], images: list[str]) -> Entry:
    values = {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
    if lacking := [name for name in (*images, "label") if not values[name]]:
        raise DataError(f"{path}:{line}: lacks {', '.join(lacking)}")
    return Entry(tuple(values[name] for name in images), values["label"], values.get("case", ""))
