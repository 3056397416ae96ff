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
    "D701": Code("No body is found in the CT.", "Check that its values are HU and that it shows a patient."),
    "D702": Code(
        "No plausible lungs are found, or they are too small.",
        "Look at the CT: is it a chest? Give a mask of your own for it in the cohort table; see `segment.min_lung_ml`.",
    ),
    "D703": Code(
        "One lung is missing.",
        "Look at the CT. For a patient with one lung fill in the column `lungs`; else give a mask of your own for it.",
    ),
    "D704": Code(
        "The given lung mask is empty, or has labels other than 1 and 2.",
        "Label the right lung 1 and the left lung 2, or both 1.",
    ),
    "D705": Code(
        "The given lung mask lies in another frame of reference than the CT.",
        "Name the mask that was drawn on this CT, or bring it onto the CT's grid as NIfTI.",
    ),
    "D706": Code(
        "No structure of the given lung mask is called like a lung, or several are.",
        "Give their names as regular expressions in `segment.own_mask`.",
    ),
    "D707": Code(
        "The given lung mask holds no RTSTRUCT or SEG, or several, or one without structures.",
        "Name one NIfTI file, one DICOM object, or a folder with one object.",
    ),
    "D708": Code(
        "A backend's library or weights are not there.",
        "Install its requirements file and name the weights in the configuration; nothing is downloaded.",
    ),
    "D709": Code(
        "Contours or segments do not lie as slices of the CT, or have no frames.",
        "Name the CT that they were drawn on, or export the mask as NIfTI on the CT's grid.",
    ),
    "D801": Code(
        "A lung mask that the registration needs is empty.",
        "Look at the segmentation of the CT that is named, or give your own mask for it.",
    ),
    "D802": Code(
        "One CT shows two lungs where the other shows one.",
        "Look at both lung masks; if they are right, the two CTs show different states, or patients.",
    ),
    "D803": Code(
        "The field of view of SPECT or attenuation CT does not hold the CT's lungs.",
        "Look whether the images belong together; see `register.refuse`.",
    ),
    "D804": Code(
        "A SPECT has no counts, or too few of them lie in the lungs.",
        "Look at the SPECT: is it of the lungs, and of this patient? See `register.refuse`.",
    ),
    "D805": Code(
        "What the images show does not belong together, even after the registration.",
        "Look whether all images of the case are of one patient and both lung masks are right; see `register.refuse`.",
    ),
    "D806": Code("ANTs failed.", "Look at the lung masks and the images' fields of view; else report it with the log."),
    "D807": Code(
        "The registration did not converge: displacements are no numbers.",
        "Look at the lung masks; a stiffer `register.transform` may help.",
    ),
    "D808": Code(
        "The registration moves lung farther than breathing can, or does not find its way back.",
        "Look whether the images belong together; see `register.refuse`.",
    ),
    "D809": Code(
        "The registration folds the lungs, or changes their volume more than breathing can.",
        "Look whether the images belong together; a stiffer `register.transform` may help; see `register.refuse`.",
    ),
    "D810": Code(
        "The table of landmarks cannot be read.",
        "It is tab-separated, with `x_ct_mm y_ct_mm z_ct_mm x_spect_mm y_spect_mm z_spect_mm` and one pair a line.",
    ),
    "D901": Code("The lung mask is empty.", "Look at the CT and at its lung mask."),
    "D903": Code(
        "Nothing is left of the lungs on the network's grid.", "Lower `crop.spacing_mm`, or look at the lung mask."
    ),
    "D904": Code(
        "The network's grid would have more voxels than a machine holds.",
        "Raise `crop.spacing_mm`, or look for specks far from the lungs in the lung mask.",
    ),
    "D905": Code("A volume has values that are no numbers.", "Export the image again, or convert it again."),
    "D906": Code(
        "The SPECT has no activity in the lungs.", "Check that it is the right series, and look at the registration."
    ),
    "D907": Code(
        "Too much of the lungs lies outside the SPECT.",
        "Look at the registration's figure; see `crop.spect.outside_limit`.",
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
    "W701": Code(
        "A lung is unusually small: collapsed, removed, or missed.", "Look at the segmentation; give your own mask."
    ),
    "W702": Code("The field of view cuts the lungs.", "Nothing, if no larger reconstruction exists."),
    "W703": Code(
        "The central airways could not be told from the lungs, and may be counted as lung.",
        "Look at the segmentation.",
    ),
    "W704": Code("A structure of the given lung mask reaches beyond the CT.", "Check that it belongs to this CT."),
    "W705": Code(
        "A given SEG lies on another grid than the CT and was brought onto it.", "Check that it belongs to this CT."
    ),
    "W706": Code(
        "Right and left lung do not come apart: cut at the midline, or taken as one lung that reaches over it.",
        "Look at the segmentation; give your own mask.",
    ),
    "W801": Code(
        "There is no attenuation CT: the SPECT itself was registered, or is used as it lies.",
        "Name the camera's CT in the cohort table if there is one; else look at the overlay (docs/registration.md).",
    ),
    "W802": Code(
        "A frame of reference is another, not known, or not borne out by the images.",
        "Look at the overlay whether the activity lies in the lungs; a large defect fits them poorly too.",
    ),
    "W803": Code(
        "The activity does not fit the lungs of the CT that it is carried with.",
        "Look at the overlay: a large defect, or the patient moved between the camera's CT and the SPECT.",
    ),
    "W804": Code(
        "A figure of the registration's quality is beyond the study's limit.",
        "Look at the overlay; exclude the case if it is wrong; see `register.flags`.",
    ),
    "W805": Code(
        "A registration beyond a limit of refusal is used, because `register.accept` names the case.",
        "Nothing, if you looked at its overlay and at the patient's identity; else take it from the list.",
    ),
    "W901": Code(
        "The network's grid reaches beyond the CT; air fills it.", "Nothing, if the CT shows the lungs as a whole."
    ),
    "W902": Code(
        "A part of the lungs lies outside the SPECT and counts as without function.",
        "Look at the registration's figure; exclude the case if the SPECT is cut off.",
    ),
    "W903": Code(
        "Hot spots held a large share of the counts in the lungs.",
        "Look at the figure of the normalised SPECT (results/report/figures/crop).",
    ),
}
