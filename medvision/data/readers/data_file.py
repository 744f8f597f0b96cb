"""The official MedVisionLlama code's list: `data_file.txt` with one `image,label` pair a line."""

from __future__ import annotations

from pathlib import Path

from medvision.data.readers.base import Declared, Entry, Listing
from medvision.data.readers.layout import known_modality, test_entries
from medvision.data.text import read_text
from medvision.errors import DataError


class DataFileReader:
    """It names no labels and no channels; test cases are those of MSD's imagesTs."""

    listing = "data_file.txt"

    def knows(self, folder: Path) -> bool:
        return (folder / self.listing).is_file()

    def read(self, path: Path) -> Listing:
        try:
            lines = read_text(path).splitlines()
        except (OSError, UnicodeError) as error:
            raise DataError(f"{path}: cannot be read as a list of cases: {error}") from error
        entries = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            image, comma, label = line.partition(",")
            if not comma or not label.strip():
                raise DataError(f"{path}:{number}: expected `image,label`, got {line!r}")
            entries.append(Entry((image.strip(),), label.strip()))
        return Listing(tuple(entries), test_entries(path.parent))

    def declared(self, folder: Path) -> Declared:
        return known_modality(folder)
