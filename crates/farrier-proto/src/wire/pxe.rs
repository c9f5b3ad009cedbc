//! PXE 2.1 encapsulated options (option 43) and the PXE forms of options 60, 93, 94, 97.
