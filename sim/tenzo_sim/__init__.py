"""tenzo simulation: the exact integer model of the machine and the Verilated machine."""
