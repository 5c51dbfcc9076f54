"""tenzo gateware: the machine that trains tensor-train networks with forward passes only."""
