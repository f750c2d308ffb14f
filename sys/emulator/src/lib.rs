//! ascend-emulator
