// LUT4: a look-up table of four inputs of the Lattice ECP5, as one expression.
module LUT4(input A, B, C, D, output Z);
  parameter [15:0] INIT = 0;
  assign Z = INIT[{D, C, B, A}];
endmodule
