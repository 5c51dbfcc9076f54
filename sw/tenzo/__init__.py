"""tenzo: train tensor-train networks with forward passes only, on an FPGA or its exact model."""
