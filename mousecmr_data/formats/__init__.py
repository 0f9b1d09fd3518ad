"""Read and write NIfTI, DICOM, Bruker and Agilent files, to and from datasets of the cine model."""
