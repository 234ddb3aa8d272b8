"""Propose the Presentation Contexts for images that come by C-GET: each as the PACS has it (PS3.8 9.3.2.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydicom import uid

from backup_scp.dimse.association.negotiation import NATIVE

MOST_CLASSES = 4
"""SOP Classes of one Association, which has at most 128 contexts (PS3.8 9.3.2.2)."""

_JPEG = "1.2.840.10008.1.2.4."
_SYNTAXES = (
    *NATIVE,
    *(_JPEG + end for end in ("50", "51", "57", "70", "80", "81", "90", "91", "92", "93")),
    *(_JPEG + end for end in ("100", "101", "102", "103", "104", "105", "106", "107", "108", "201", "202", "203")),
    str(uid.RLELossless),
    str(uid.DeflatedExplicitVRLittleEndian),
)

_USUAL = (
    uid.DigitalXRayImageStorageForPresentation,
    uid.ComputedRadiographyImageStorage,
    uid.CTImageStorage,
    uid.SecondaryCaptureImageStorage,
    uid.MRImageStorage,
    uid.UltrasoundImageStorage,
    uid.UltrasoundMultiFrameImageStorage,
    uid.DigitalIntraOralXRayImageStorageForPresentation,
    uid.DigitalMammographyXRayImageStorageForPresentation,
    uid.GrayscaleSoftcopyPresentationStateStorage,
    uid.EncapsulatedPDFStorage,
    uid.XRayRadiationDoseSRStorage,
    uid.BasicTextSRStorage,
    uid.EnhancedSRStorage,
    uid.ComprehensiveSRStorage,
    uid.KeyObjectSelectionDocumentStorage,
    uid.XRayAngiographicImageStorage,
    uid.XRayRadiofluoroscopicImageStorage,
    uid.NuclearMedicineImageStorage,
    uid.PositronEmissionTomographyImageStorage,
    uid.EnhancedCTImageStorage,
    uid.EnhancedMRImageStorage,
    uid.EnhancedXAImageStorage,
    uid.XRay3DAngiographicImageStorage,
    uid.DigitalXRayImageStorageForProcessing,
    uid.DigitalMammographyXRayImageStorageForProcessing,
    uid.DigitalIntraOralXRayImageStorageForProcessing,
    uid.BreastTomosynthesisImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    uid.VLPhotographicImageStorage,
    uid.VLEndoscopicImageStorage,
    uid.VideoEndoscopicImageStorage,
    uid.VLMicroscopicImageStorage,
    uid.OphthalmicPhotography8BitImageStorage,
    uid.OphthalmicTomographyImageStorage,
    uid.ColorSoftcopyPresentationStateStorage,
    uid.SegmentationStorage,
    uid.RawDataStorage,
    uid.RTImageStorage,
    uid.RTStructureSetStorage,
    uid.RTPlanStorage,
    uid.RTDoseStorage,
    uid.TwelveLeadECGWaveformStorage,
    uid.GeneralECGWaveformStorage,
    uid.EncapsulatedSTLStorage,
    uid.EncapsulatedCDAStorage,
)


def contexts_as_stored(classes: Iterable[str]) -> list[tuple[str, tuple[str]]]:
    """Return a context for each SOP Class and Transfer Syntax: so the PACS need not convert any image."""
    return [(abstract, (syntax,)) for abstract in sorted(classes) for syntax in _SYNTAXES]


class UsualClasses:
    """The SOP Classes to try for images of which the PACS does not say theirs; the last ones that came are first."""

    def __init__(self) -> None:
        self._classes = dict.fromkeys(map(str, reversed(_USUAL)))

    def note(self, sop_class_uid: str) -> None:
        """Note that an image of this SOP Class has come."""
        self._classes.pop(sop_class_uid, None)
        self._classes[sop_class_uid] = None

    def groups(self) -> Iterator[frozenset[str]]:
        """Yield them in groups for one Association each."""
        ordered = list(reversed(self._classes))
        for at in range(0, len(ordered), MOST_CLASSES):
            yield frozenset(ordered[at : at + MOST_CLASSES])
