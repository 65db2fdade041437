"""Results in DICOM: a segmentation and a report of its volumes, in the study of the scan and in its frame of reference.

Both carry the patient and study of the scan, as an archive needs them. No other result does.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixpriv import __version__
from mixpriv.client.codes import Codes, codes_of
from mixpriv.client.segmentation import Segmentation
from mixpriv.client.table import ClassVolume
from mixpriv.errors import InputError
from mixpriv.imaging.dicom.files import quiet, require_pydicom
from mixpriv.imaging.dicom.reader import Source

MANUFACTURER = "mixpriv"
SEGMENTATION_SERIES, REPORT_SERIES = 9001, 9002
"""Series numbers, above those of scanners."""


def encode_dicom(result: Segmentation, mode: str) -> tuple[bytes, bytes]:
    """Make the files of a DICOM Segmentation and of a structured report (TID 1500) of the volumes.

    The same labels of the same images, made by the same version, always have the same UIDs.

    Raises
    ------
    InputError
        the scan was not read from DICOM, the extra is missing, or its headers lack what results must refer to.
    """
    require_pydicom()
    source = result.scan.header
    if not isinstance(source, Source):
        raise InputError(f"{result.scan.name}: expected a scan read from DICOM for results in DICOM")
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise InputError("DICOM needs the extra 'dicom': pip install 'mixpriv[dicom]'") from None
    with quiet():
        try:
            segmentation = _segmentation(result, source, mode)
            report = _report(result, segmentation, source)
        except Exception:  # a damaged header can make it raise anything, in words that tell what stands in it
            raise InputError(
                f"{result.scan.name}: its images lack attributes that results in DICOM need: expected -o with .nii.gz"
            ) from None
        return _written(segmentation), _written(report)


def _segmentation(result: Segmentation, source: Source, mode: str) -> Any:
    from highdicom.seg import Segmentation as SegmentationImage

    uid = _uids(result, source)
    images, frames = _frames(result, source)
    volumes = result.volumes
    made = SegmentationImage(
        source_images=images,
        pixel_array=frames,
        segmentation_type="BINARY",
        segment_descriptions=[_segment(n, volume, result, uid) for n, volume in enumerate(volumes, start=1)],
        series_instance_uid=uid("segmentation series"),
        series_number=SEGMENTATION_SERIES,
        sop_instance_uid=uid("segmentation"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=f"{result.bundle.name} {result.bundle.version}",
        software_versions=__version__,
        device_serial_number=result.bundle.fingerprint[:16],
        content_label="SEGMENTATION",
        content_description=f"mixpriv, mode {mode}",
    )
    made.SeriesDescription = f"mixpriv {result.bundle.name}"
    return made


def _frames(result: Segmentation, source: Source) -> tuple[Sequence[Any], NDArray[np.uint8]]:
    """The images and for each frame of them the numbers of its segments (rows, columns), in the images' own order."""
    numbers = np.zeros(256, np.uint8)
    for number, volume in enumerate(result.volumes, start=1):
        numbers[volume.index] = number
    segments = numbers[result.labels].transpose(2, 1, 0)
    if len(source.headers) == 1:
        order = np.argsort([one.place[1] for one in source.slices])
        return source.headers, np.ascontiguousarray(segments[order])
    return [source.headers[one.place[0]] for one in source.slices], np.ascontiguousarray(segments)


def _segment(number: int, volume: ClassVolume, result: Segmentation, uid: Any) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    algorithm = AlgorithmIdentificationSequence(
        name=f"mixpriv {result.bundle.name}",
        family=codes.DCM.ArtificialIntelligence,
        version=f"{__version__}/{result.bundle.version}",
    )
    coded = codes_of(volume.name)
    made = SegmentDescription(
        segment_number=number,
        segment_label=volume.name,
        segmented_property_category=coded.category,
        segmented_property_type=coded.type,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=uid(f"segment {volume.name}"),
        tracking_id=volume.name,
        display_color=CIELabColor.from_rgb(*bytes.fromhex(volume.color[1:])),
    )
    if coded.side is not None:
        made.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = _side(coded)
    return made


def _side(coded: Codes) -> Any:
    from highdicom.sr import CodedConcept
    from pydicom.sequence import Sequence as Items

    return Items([CodedConcept(*coded.side)])


def _report(result: Segmentation, segmentation: Any, source: Source) -> Any:
    from highdicom.sr import (
        DeviceObserverIdentifyingAttributes,
        EnhancedSR,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
    )
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    uid = _uids(result, source)
    device = DeviceObserverIdentifyingAttributes(
        uid=uid("device"),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=f"{result.bundle.name} {result.bundle.version}",
        serial_number=result.bundle.fingerprint[:16],
    )
    observer = ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=Code("24590-2", "LN", "MR Brain"),
        imaging_measurements=[
            _measured(n, volume, segmentation, source, uid) for n, volume in enumerate(result.volumes, start=1)
        ],
    )
    made = EnhancedSR(
        evidence=[*source.headers, segmentation],
        content=content[0],
        series_instance_uid=uid("report series"),
        series_number=REPORT_SERIES,
        sop_instance_uid=uid("report"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    made.SeriesDescription = f"mixpriv {result.bundle.name} volumes"
    made.SoftwareVersions = __version__
    return made


def _measured(number: int, volume: ClassVolume, segmentation: Any, source: Source, uid: Any) -> Any:
    from highdicom.sr import (
        CodedConcept,
        FindingSite,
        Measurement,
        ReferencedSegment,
        SourceSeriesForSegmentation,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    coded = codes_of(volume.name)
    site = FindingSite(
        anatomic_location=CodedConcept(*coded.type), laterality=CodedConcept(*coded.side) if coded.side else None
    )
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=uid(f"segment {volume.name}"), identifier=volume.name),
        referenced_segment=ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=number,
            source_series=SourceSeriesForSegmentation(source.headers[0].SeriesInstanceUID),
        ),
        finding_category=coded.category,
        finding_type=coded.type,
        finding_sites=[site],
        measurements=[
            Measurement(name=codes.SCT.Volume, value=volume.volume_ml, unit=Code("mL", "UCUM", "milliliter")),
        ],
    )


def _uids(result: Segmentation, source: Source) -> Any:
    """Names of what is made of these images and labels: the same whoever asks again."""
    made_of = hashlib.sha256(result.labels.tobytes(order="F"))
    for header in source.headers:
        made_of.update(str(header.SOPInstanceUID).encode())
    made_of.update(f"{__version__} {result.bundle.fingerprint}".encode())

    def uid(what: str) -> str:
        digest = hashlib.sha256(made_of.digest() + what.encode()).digest()
        return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"

    return uid


def _written(dataset: Any) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
