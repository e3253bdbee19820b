"""botocore's definitions of services: the same files, read in less time."""

import gzip
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.loaders import JSONFileLoader, Loader, create_loader

_WAYS_TO_OPEN: Final = ((".json", open), (".json.gz", gzip.open))


@cache
def definitions(data_path: str | None) -> Loader:
    """For all clients with this path (`AWS_DATA_PATH`): reading them takes most of the time that a client takes."""
    return _Definitions(create_loader(data_path).search_paths, include_default_search_paths=False)


class _Files(JSONFileLoader):
    """A client reads 3 MB of JSON, for which botocore's own takes three times as long."""

    def load_file(self, file_path: str) -> Any:
        """None: there is no such file."""
        for ending, way in _WAYS_TO_OPEN:
            if Path(file_path + ending).is_file():
                try:
                    with way(file_path + ending, "rb") as file:
                        return msgspec.json.decode(file.read())
                except msgspec.DecodeError:
                    break  # people may lay files there, too: botocore says what is wrong with one
        return super().load_file(file_path)


class _Definitions(Loader):
    """Looks into the folders of no other service: botocore's own looks for the type in all 400 before it reads one."""

    FILE_LOADER_CLASS = _Files

    def list_available_services(self, type_name: str) -> list[str]:
        """All that have a folder. Whether one has a file of this type shows when it is read."""
        folders = [Path(path) for path in self.search_paths if Path(path).is_dir()]
        return sorted({each.name for folder in folders for each in folder.iterdir()})

    def load_service_model(self, service_name: str, type_name: str, api_version: Any | None = None) -> Any:
        """Raises UnknownServiceError where the service has no such file, as if it had not been listed."""
        try:
            return super().load_service_model(service_name, type_name, api_version)
        except DataNotFoundError as error:
            known = ", ".join(self.list_available_services(type_name))
            raise UnknownServiceError(service_name=service_name, known_service_names=known) from error
