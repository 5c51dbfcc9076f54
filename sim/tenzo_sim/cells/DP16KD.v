// DP16KD: a block RAM of the Lattice ECP5, 18,432 bits behind two ports (FPGA-TN-02204, memory usage guide).
//
// Modelled: widths 1, 2, 4, 9, 18 and 36 (of 36, port A writes and port B reads, through the data pins of both), write
// enables of 9 bits, NOREG and OUTREG, NORMAL and READBEFOREWRITE, resets, initial contents. Outputs are zero at power-on.
// Everything else is refused when it is built.
//
// What a port reads while the other one writes it is not defined: here it comes out inverted, so that no design can depend
// on it. Both ports have one clock.
module DP16KD(
  input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1,
  DIA0,
  input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
  input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
  output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2,
  DOA1, DOA0,
  input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1,
  DIB0,
  input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
  input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
  output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
  DOB1, DOB0
);
  parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18;
  parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG";
  parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL";
  parameter RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC";
  parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000";
  parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB";
  parameter GSR = "ENABLED";
  parameter [319:0] INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0;
  parameter [319:0] INITVAL_04 = 0, INITVAL_05 = 0, INITVAL_06 = 0, INITVAL_07 = 0;
  parameter [319:0] INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0;
  parameter [319:0] INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0;
  parameter [319:0] INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0;
  parameter [319:0] INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0;
  parameter [319:0] INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0;
  parameter [319:0] INITVAL_1C = 0, INITVAL_1D = 0, INITVAL_1E = 0, INITVAL_1F = 0;
  parameter [319:0] INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0, INITVAL_23 = 0;
  parameter [319:0] INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0;
  parameter [319:0] INITVAL_28 = 0, INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0;
  parameter [319:0] INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0;
  parameter [319:0] INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0;
  parameter [319:0] INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0, INITVAL_37 = 0;
  parameter [319:0] INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0;
  parameter [319:0] INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0;

  // A module that is not there: no option of a simulator makes that a warning.
  generate
    if (WRITEMODE_A != "NORMAL" && WRITEMODE_A != "READBEFOREWRITE")
      DP16KD_has_no_model_of_this_WRITEMODE_A refused();
    if (WRITEMODE_B != "NORMAL" && WRITEMODE_B != "READBEFOREWRITE")
      DP16KD_has_no_model_of_this_WRITEMODE_B refused();
    if (CSDECODE_A != "0b000" || CSDECODE_B != "0b000")
      DP16KD_has_no_model_of_this_CSDECODE refused();
    if (CLKAMUX != "CLKA" || CLKBMUX != "CLKB")
      DP16KD_has_no_model_of_inverted_clocks refused();
    if (DATA_WIDTH_B == 36 && DATA_WIDTH_A != 36)
      DP16KD_has_no_model_of_these_widths refused();
    if (REGMODE_A != "NOREG" && REGMODE_A != "OUTREG" || REGMODE_B != "NOREG" && REGMODE_B != "OUTREG")
      DP16KD_has_no_model_of_this_REGMODE refused();
  endgenerate

  wire [13:0] address_a = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
  wire [17:0] given_a = {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4,
  DIA3, DIA2, DIA1, DIA0};
  wire [13:0] address_b = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
  wire [17:0] given_b = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4,
  DIB3, DIB2, DIB1, DIB0};
  // A port works when it is clocked and selected.
  wire active_a = CEA & ~(CSA2 | CSA1 | CSA0);
  wire active_b = CEB & ~(CSB2 | CSB1 | CSB0);
  // A synchronous reset holds the port's writes back.
  wire write_a = active_a & WEA & ~(RSTA & (RESETMODE == "SYNC"));
  wire write_b = active_b & WEB & ~(RSTB & (RESETMODE == "SYNC"));

  // A row of 36 bits is two words of 18, each two units of 9; the widths below 9 leave a unit's top bit out.
  reg [35:0] rows [0:511];
  localparam [20479:0] INITIAL = {
    INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38, INITVAL_37,
    INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E,
    INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28, INITVAL_27, INITVAL_26, INITVAL_25,
    INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C,
    INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13,
    INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A,
    INITVAL_09, INITVAL_08, INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01,
    INITVAL_00
  };
  integer word;
  initial
    for (word = 0; word < 512; word = word + 1)
      rows[word] = {INITIAL[40 * word + 20 +: 18], INITIAL[40 * word +: 18]};

  // First bit of what is addressed within its row.
  function [5:0] place(input integer width, input [13:0] address);
    case (width)
      36: place = 0;
      18: place = 18 * address[4];
      9: place = 18 * address[4] + 9 * address[3];
      4: place = 18 * address[4] + 9 * address[3] + 4 * address[2];
      2: place = 18 * address[4] + 9 * address[3] + 2 * address[2:1];
      default: place = 18 * address[4] + 9 * address[3] + address[2:0];
    endcase
  endfunction

  // The bits of a row that a write changes.
  function [35:0] changed(input integer width, input [13:0] address);
    case (width)
      36: changed = {{9{address[3]}}, {9{address[2]}}, {9{address[1]}}, {9{address[0]}}};
      18: changed = {18'b0, {9{address[1]}}, {9{address[0]}}} << place(width, address);
      default: changed = ((36'b1 << width) - 36'b1) << place(width, address);
    endcase
  endfunction

  wire [35:0] mask_a = write_a ? changed(DATA_WIDTH_A, address_a) : 36'b0;
  wire [35:0] mask_b = write_b ? changed(DATA_WIDTH_B, address_b) : 36'b0;
  wire [35:0] data_a = (DATA_WIDTH_A == 36 ? {given_b, given_a} : {18'b0, given_a}) << place(DATA_WIDTH_A, address_a);
  wire [35:0] data_b = {18'b0, given_b} << place(DATA_WIDTH_B, address_b);
  always @(posedge CLKA)
    if (write_a) rows[address_a[13:5]] <= (rows[address_a[13:5]] & ~mask_a) | (data_a & mask_a);
  always @(posedge CLKB)
    if (write_b) rows[address_b[13:5]] <= (rows[address_b[13:5]] & ~mask_b) | (data_b & mask_b);

  wire same = address_a[13:5] == address_b[13:5];
  wire [35:0] row_a = rows[address_a[13:5]] ^ (same ? mask_b : 36'b0);
  wire [35:0] row_b = rows[address_b[13:5]] ^ (same ? mask_a : 36'b0);
  wire [35:0] read_a = row_a >> place(DATA_WIDTH_A, address_a) & ((37'b1 << DATA_WIDTH_A) - 37'b1);
  wire [35:0] read_b = row_b >> place(DATA_WIDTH_B, address_b) & ((37'b1 << DATA_WIDTH_B) - 37'b1);

  reg [35:0] latch_a = 0, latch_b = 0, output_a = 0, output_b = 0;
  wire now_a = RSTA & (RESETMODE == "ASYNC");
  wire now_b = RSTB & (RESETMODE == "ASYNC");
  always @(posedge CLKA or posedge now_a)
    if (now_a | RSTA) latch_a <= 0;
    else if (active_a & (~WEA | WRITEMODE_A == "READBEFOREWRITE")) latch_a <= read_a;
  always @(posedge CLKB or posedge now_b)
    if (now_b | RSTB) latch_b <= 0;
    else if (active_b & (~WEB | WRITEMODE_B == "READBEFOREWRITE")) latch_b <= read_b;
  always @(posedge CLKA or posedge now_a)
    if (now_a | RSTA) output_a <= 0;
    else if (OCEA) output_a <= latch_a;
  always @(posedge CLKB or posedge now_b)
    if (now_b | RSTB) output_b <= 0;
    else if (OCEB) output_b <= latch_b;

  wire [35:0] out_a = REGMODE_A == "OUTREG" ? output_a : latch_a;
  wire [35:0] out_b = REGMODE_B == "OUTREG" ? output_b : latch_b;
  assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2,
  DOA1, DOA0} = DATA_WIDTH_B == 36 ? out_b[17:0] : out_a[17:0];
  assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
  DOB1, DOB0} = DATA_WIDTH_B == 36 ? out_b[35:18] : out_b[17:0];
endmodule
