"""Stable codes of everything that can be wrong with images: what a code means and what to do.

Codes are never reused or renumbered: 1xx files, 2xx choice of images, 3xx geometry, 4xx values, 5xx acquisition and
cohort, 6xx identity, 7xx lungs, 8xx registration, 9xx crop. `D` stops a case, `W` is only said. docs/errors.md is made
from this table.
"""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """What a code stands for.

    Attributes:
        meaning: the problem, one sentence.
        remedy: what the user can do, one sentence.
    """

    meaning: str
    remedy: str


CODES = {
    "D101": Code("The file or folder of an image does not exist.", "Correct the path in the cohort table."),
    "D102": Code("A file is empty.", "Copy or export it again."),
    "D103": Code("A file's DICOM header is damaged.", "Copy or export it again."),
    "D104": Code("A file cannot be read to its end.", "Copy or export it again; check access rights and the disk."),
    "D105": Code("A folder holds no DICOM object.", "Name the right folder in the cohort table."),
    "D106": Code("An attribute's value cannot be understood.", "Export the series again from its source."),
    "D107": Code("A required attribute is missing.", "Export the series again; anonymisers sometimes remove too much."),
    "D108": Code(
        "The header claims more pixels than the file can hold, or the file unpacks to more than any image needs.",
        "The file is cut off or damaged: copy or export it again.",
    ),
    "D109": Code(
        "An unexpected error ended the reading of an image.",
        "Please report it with the log; other images are not hurt.",
    ),
    "D110": Code(
        "The reading of an image ended the process: a library crashed, or the memory was full.",
        "Copy or export the image again, or give the job more memory; else report it with the log.",
    ),
    "D201": Code("No CT slices are among the files.", "Name the folder or series of the CT."),
    "D202": Code("The images belong to several series.", "Name one series, for example as `ct2vq discover` proposes."),
    "D203": Code("No SPECT is among the files.", "Name the NM object or PT series of the reconstruction."),
    "D204": Code("There are several volumes where one is expected.", "Name the file of one reconstruction."),
    "D205": Code(
        "An NM object is no reconstructed volume (planar, whole body, dynamic, gated or raw projections).",
        "Name the reconstruction (RECON TOMO).",
    ),
    "D206": Code(
        "One object mixes energy windows, detectors, phases, rotations or time slots.",
        "Export one volume of one energy window.",
    ),
    "D207": Code("A PT series is dynamic, gated or a reprojection.", "Name the static reconstruction."),
    "D208": Code("An NM object is a transmission map.", "Name the emission reconstruction."),
    "D210": Code(
        "An enhanced CT object holds several stacks, times or kinds of frames.",
        "Export one stack of one reconstruction.",
    ),
    "D211": Code(
        "The images of one series do not belong together (patient, study, frame of reference, kernel, kind or units).",
        "Keep the images of one reconstruction of one patient; an anonymiser may have given two series one UID.",
    ),
    "D301": Code("Matrix size or pixel spacing makes no sense.", "Export the series again from its source."),
    "D302": Code("Row and column directions are no perpendicular unit vectors.", "Export the series again."),
    "D303": Code("A single slice is no volume.", "Check whether the series is complete."),
    "D304": Code("Slices differ in matrix size.", "Keep one stack of parallel slices."),
    "D305": Code("Slices differ in pixel spacing.", "Keep one stack of parallel slices."),
    "D306": Code("Slices differ in orientation.", "Keep one stack of parallel slices (no localizers, no reformats)."),
    "D307": Code("Two slices lie at one position.", "Remove the duplicate, or keep one of two merged series."),
    "D308": Code("Slices are missing.", "Export the whole series again."),
    "D309": Code("Slices are irregularly spaced.", "Export a regular reconstruction; see `slice_tolerance_mm`."),
    "D310": Code(
        "The slices are not stacked along their normal (gantry tilt), by more than any gantry tilts or where it is not "
        "corrected.",
        "See `convert.gantry_tilt`, or reconstruct without tilt.",
    ),
    "D311": Code("A slice lies beside the stack's axis: the tilt varies.", "Check whether two series are mixed."),
    "D312": Code("The frames' slice numbers are not 1 to n, each once.", "Export the reconstruction again."),
    "D313": Code("The distance between slices is not known.", "Export the reconstruction again."),
    "D314": Code("Detectors disagree about the volume's place.", "Export the reconstruction again."),
    "D315": Code(
        "SimpleITK (GDCM) places the volume elsewhere, and no known rule explains why.",
        "Export the images again; report the case if both headers look right.",
    ),
    "D401": Code("A colour image holds no measured values.", "Name the original series, no screenshot."),
    "D402": Code("A file holds no pixel data.", "Check whether it is complete."),
    "D403": Code("The pixel data cannot be decoded.", "Check whether the file is cut off; else decompress it."),
    "D404": Code("Values stand behind a lookup table.", "Export the series with a linear rescale."),
    "D405": Code("The rescale slope is 0.", "Export the series again from its source."),
    "D406": Code("There is no rescale to physical units.", "Export the original series, no derived copy."),
    "D407": Code("The rescale leads to units other than HU.", "Name the CT itself, no derived map."),
    "D408": Code("The values cannot be HU of a patient.", "Check the rescale; see `convert.hu_plausibility`."),
    "D409": Code("The image holds no counts.", "Check the reconstruction."),
    "D410": Code("An image has another size than its header says.", "Copy or export it again."),
    "D411": Code(
        "Real-world value mappings have no slope, contradict each other or leave stored values out.",
        "Export the reconstruction with one linear mapping.",
    ),
    "D412": Code("The values do not fill the low bits that the header names.", "Export the series from its source."),
    "D501": Code("The CT's slices are thicker than allowed.", "Name a thinner series, or see `convert.limits`."),
    "D502": Code("Contrast was given, and the study allows none.", "Name a series without contrast."),
    "D503": Code("The CT's kernel is not allowed.", "Name the series of another kernel, or see `convert.limits`."),
    "D504": Code(
        "A SPECT has (or lacks) attenuation correction against what the study wants.",
        "Name the other reconstruction, or see `convert.limits.attenuation_correction`.",
    ),
    "D505": Code(
        "The nuclide is a positron emitter: the image is a PET.",
        "Name the SPECT, or set `convert.limits.allow_positron_emitters`.",
    ),
    "D506": Code("Too many days lie between CT and SPECT.", "Name a CT of that time, or exclude the case."),
    "D507": Code(
        "Too many days lie between perfusion and ventilation.", "Name images of one time, or exclude the case."
    ),
    "D508": Code(
        "Some cases have attenuation correction and others have not.",
        "Name reconstructions of one kind, exclude cases, or set `convert.limits.attenuation_correction: any`.",
    ),
    "D509": Code("Two volumes of the cohort are made from the same files.", "Correct the paths in the cohort table."),
    "D510": Code(
        "Headers of one patient stand under several `patient_id` of the cohort table.",
        "Give the patient one `patient_id`: else it is in training and test at once.",
    ),
    "D601": Code("Text is burned into the pixels: it may name the patient.", "Export it without text."),
    "D602": Code(
        "The case's or the patient's id in the cohort table repeats what the header says of the patient.",
        "Choose pseudonyms (`patient-07`); docs/deidentification.md tells what counts.",
    ),
    "W101": Code("Files of a folder were left out.", "Nothing, if the reason is right."),
    "W201": Code(
        "The series UID is missing, so that all files count as one series.", "Check that only one was exported."
    ),
    "W202": Code("The series has fewer images than its acquisition.", "Check that no slices are missing at its ends."),
    "W301": Code("An NM object has no slice vector: frames are taken as stored.", "Look at the volume."),
    "W302": Code("Slice thickness stands in for the missing spacing between slices.", "Check the volume's height."),
    "W303": Code("Several detectors state one geometry.", "Nothing."),
    "W304": Code("Slice thickness or spacing differ from the positions, which are used.", "Nothing, if they overlap."),
    "W305": Code("The slices drift sideways by less than the tolerance.", "Nothing."),
    "W306": Code(
        "Slices of a tilted gantry were straightened onto a box.", "Look at the volume's first and last slices."
    ),
    "W307": Code("Slice thickness or spacing cannot be understood; the positions are used.", "Nothing."),
    "W401": Code("A padding value that stands for tissue was not applied.", "Nothing."),
    "W402": Code("Values below air were set to air.", "Nothing."),
    "W403": Code("The values are hardly HU of a patient, and the study does not mind.", "Look at the volume."),
    "W404": Code(
        "Several real-world mappings are stored: Bq/mL comes before counts, SUV is left out.",
        "Check the units in the sidecar.",
    ),
    "W405": Code("A SPECT has negative voxels.", "Nothing, if the reconstruction allows them."),
    "W406": Code("Images underwent lossy compression.", "Export the originals, if they are kept."),
    "W501": Code("A limit cannot be checked, because the header does not tell.", "Look it up in the archive."),
    "W502": Code("Images of one case carry different patient ids.", "Check that they show one patient."),
    "W503": Code("All images carry one patient id.", "Check `patient_id` in the cohort table by hand."),
    "W504": Code("Cases of one patient share an image.", "Nothing, if this is meant."),
    "W505": Code("The tracer belongs to the other target.", "Check that perfusion and ventilation are not swapped."),
    "W506": Code(
        "A date lies too near to the first year to be shifted, and is left out.", "Look at the header's date."
    ),
    "W601": Code("The header says that the patient can be recognised from the image.", "Share no volume of a head."),
}
