// SB_LUT4: a look-up table of four inputs of the Lattice iCE40, as one expression. A pin that is not connected is low.
module SB_LUT4(output O, input I0, I1, I2, I3);
  parameter [15:0] LUT_INIT = 0;
  assign O = LUT_INIT[{I3, I2, I1, I0}];
endmodule
