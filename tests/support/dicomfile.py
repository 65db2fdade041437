"""DICOM series of a volume, with made-up names, as a scanner would write them or as accidents leave them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

NAMES = ("ROE^RICHARD", "MRN-9981", "19500228", "GENERAL^HOSPITAL", "HOUSE^GREGORY")
"""What identifies the patient: none of it may be seen where it does not belong."""

AXIAL = np.diag([-1.5, -1.5, 2.0, 1.0])
OBLIQUE = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, 0.2, -0.1) @ np.diag([-1.5, -1.5, 2.0]), [4, 5, 6])
SAGITTAL = np.array([[0, 0, 2.0, -9], [-1.5, 0, 0, 11], [0, -1.5, 0, 13], [0, 0, 0, 1]])


def images(voxels: NDArray[Any], affine: NDArray[np.float64] = AXIAL, **attributes: Any) -> list[Any]:
    """One image for each slice of voxels (columns, rows, slices) int16; a callable attribute is given its number."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    made = []
    for k in range(voxels.shape[2]):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        fields: dict[str, Any] = {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
            "SOPInstanceUID": generate_uid(),
            "StudyInstanceUID": study,
            "SeriesInstanceUID": series,
            "FrameOfReferenceUID": frame,
            "PositionReferenceIndicator": "",
            "PatientName": NAMES[0],
            "PatientID": NAMES[1],
            "PatientBirthDate": NAMES[2],
            "PatientSex": "M",
            "InstitutionName": NAMES[3],
            "ReferringPhysicianName": NAMES[4],
            "AccessionNumber": "A-77",
            "StudyID": "S-77",
            "StudyDate": "20200102",
            "StudyTime": "101112",
            "Modality": "MR",
            "Manufacturer": "none",
            "SeriesNumber": 3,
            "SeriesDescription": "t1_mprage_sag",
            "ImageType": ["ORIGINAL", "PRIMARY", "M"],
            "ScanningSequence": "GR",
            "SequenceVariant": "MP",
            "ScanOptions": "",
            "MRAcquisitionType": "3D",
            "RepetitionTime": 8,
            "EchoTime": 3,
            "EchoTrainLength": 1,
            "FlipAngle": 9,
            "InstanceNumber": k + 1,
            "ImagePositionPatient": [*map(float, (lps @ [0, 0, k, 1])[:3].round(9))],
            "ImageOrientationPatient": [*map(float, (lps[:3, :2] / spacing[:2]).T.ravel().round(9))],
            "PixelSpacing": [float(spacing[1]), float(spacing[0])],
            "SliceThickness": float(spacing[2]),
            "Rows": voxels.shape[1],
            "Columns": voxels.shape[0],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 1,
            **attributes,
        }
        for name, value in fields.items():
            value = value(k) if callable(value) else value
            if value is not None:
                setattr(image, name, value)
        image.PixelData = np.ascontiguousarray(voxels[:, :, k].T, "<i2").tobytes()
        made.append(image)
    return made


def save(made: list[Any], folder: Path) -> Path:
    """Write images under names that tell no order."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in made:
        image.save_as(folder / f"{image.SOPInstanceUID[-12:]}.dcm", enforce_file_format=True)
    return folder


def enhanced(made: list[Any]) -> Any:
    """The same as one image of many frames."""
    from highdicom.legacy import LegacyConvertedEnhancedMRImage
    from pydicom.uid import generate_uid

    return LegacyConvertedEnhancedMRImage(made, generate_uid(), made[0].SeriesNumber, generate_uid(), 1)
