"""DICOM: finds the T1-weighted series among files, and makes a volume of it. Needs the extra ``dicom``."""
