"""LogSettings: which of the server's lines are logged, by Triton's names."""

import logging
from typing import Any

from atelier_server._generated.atelier.kserve import grpc_service_pb2 as pb
from atelier_server.errors import InvalidArgument, NotImplementedYet
from atelier_server.telemetry.logging import OUR_LOGGERS

_FLAGS = ("log_error", "log_warning", "log_info")
_FORMAT = "ISO8601"
"""The one form of time stamps that the server's lines have."""


class LogSettings:
    """Reads and sets the level of the server's own loggers. The level is the only state, so that other ways agree."""

    def change(self, request: pb.LogSettingsRequest) -> None:
        """Applies all settings of a request, or none.

        Raises:
            InvalidArgument: A setting is unknown, of the wrong kind, or cannot be.
            NotImplementedYet: Where lines go is not decided by callers.
        """
        flags, verbose = _flags_of(_level()), _verbose_level()
        for name, value in request.settings.items():
            if name in _FLAGS:
                flags[name] = bool(_typed(name, value, "bool_param"))
            elif name == "log_verbose_level":
                verbose = int(_typed(name, value, "uint32_param"))
            elif name == "log_format":
                if _typed(name, value, "string_param") not in (_FORMAT, "default"):
                    raise InvalidArgument(f"log_format is {_FORMAT} here", field=name)
            elif name == "log_file":
                raise NotImplementedYet("log file location can not be updated through network protocol", field=name)
            else:
                raise InvalidArgument(f"there is no log setting '{name[:40]}'", field="settings")
        if request.settings:
            _set_level(logging.DEBUG if verbose else _level_of(flags))

    def response(self) -> pb.LogSettingsResponse:
        """All settings as they are."""
        response = pb.LogSettingsResponse()
        for name, value in _flags_of(_level()).items():
            response.settings[name].bool_param = value
        response.settings["log_verbose_level"].uint32_param = _verbose_level()
        response.settings["log_format"].string_param = _FORMAT
        response.settings["log_file"].string_param = ""
        return response


def _typed(name: str, value: pb.LogSettingsRequest.SettingValue, kind: str) -> Any:
    if value.WhichOneof("parameter_choice") != kind:
        raise InvalidArgument(f"expect {kind.removesuffix('_param')} for '{name}'", field=name)
    return getattr(value, kind)


def _level() -> int:
    return logging.getLogger(OUR_LOGGERS[0]).getEffectiveLevel()


def _set_level(level: int) -> None:
    for name in OUR_LOGGERS:
        logging.getLogger(name).setLevel(level)


def _verbose_level() -> int:
    return int(_level() <= logging.DEBUG)


def _flags_of(level: int) -> dict[str, bool]:
    return {
        "log_error": level <= logging.ERROR,
        "log_warning": level <= logging.WARNING,
        "log_info": level <= logging.INFO,
    }


def _level_of(flags: dict[str, bool]) -> int:
    """The least level whose flag is set. Levels include each other, so info without warning is not possible."""
    by_flag = {"log_info": logging.INFO, "log_warning": logging.WARNING, "log_error": logging.ERROR}
    return next((level for name, level in by_flag.items() if flags[name]), logging.CRITICAL)
