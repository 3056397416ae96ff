"""Stage `register`: where in the SPECT each point of the CT lies.

With the camera's own CT: rigid, affine, a search inside each lung and SyN (Avants et al., Med Image Anal 2008;12:26,
in ANTs) from the CT to the attenuation CT round the lungs; the SPECT, which shares the attenuation CT's frame of
reference, is carried along. Without one, a SPECT that shares the CT's frame of reference is used as it lies, unless the
images deny that. Else the registration is rigid, on the SPECT against the blurred lungs: deforming on SPECT intensities
could close a real perfusion defect. The record says what was done, and what that leaves undone.

Images lie as scanned to each other only in one frame of reference (DICOM PS3.3 C.7.4.1). Two SPECT images are added up
only in one; a SPECT that does not share its attenuation CT's is carried along nevertheless, and flagged.

`case` finds the transforms; `judge` measures them, flags and refuses; `warp` carries a SPECT. Nothing is imported here,
so that each job depends on its own modules only.
"""
