"""Errors that a user can act on: what is wrong, which file, which key, what to do."""

from __future__ import annotations

from pathlib import Path


class Ct2vqError(Exception):
    """A problem in the input, the configuration or the machine, told in one message without a traceback.

    Args:
        message: what is wrong, with the value found and the value expected.
        path: the file or folder concerned.
        key: the config key, table column or DICOM attribute concerned.
        hint: what the user can do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | Path | None = None,
        key: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.message = message
        self.path = None if path is None else str(path)
        self.key = key
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        where = ", ".join(
            text
            for text in (
                f"file {self.path}" if self.path else "",
                f"key {self.key}" if self.key else "",
            )
            if text
        )
        text = f"{where}: {self.message}" if where else self.message
        return f"{text} ({self.hint})" if self.hint else text


class ConfigError(Ct2vqError):
    """The configuration or the cohort table is wrong."""


class CodedError(Ct2vqError):
    """A problem with a stable code, by which docs/errors.md explains it.

    Args:
        code: one of `ct2vq.codes.CODES`; it begins the message.
        message, path, key, hint: as for `Ct2vqError`.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        path: str | Path | None = None,
        key: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.code = code
        super().__init__(message, path=path, key=key, hint=hint)

    def __str__(self) -> str:
        return f"{self.code} {super().__str__()}"


class DicomError(CodedError):
    """A DICOM folder or object cannot give a volume that can be trusted."""


class RegistrationError(CodedError):
    """CT and SPECT could not be brought together, or do not belong together."""


class CropError(CodedError):
    """A volume cannot be brought onto the network's grid."""


class GeometryError(Ct2vqError):
    """Two volumes that should share a grid, or a volume and its description, do not agree."""


class SegmentationError(CodedError):
    """No plausible pair of lungs was found, or a given mask cannot be used."""


class TrainingError(Ct2vqError):
    """A training cannot start or go on."""
