//! CANN's kernels for matrix products, one line each.
//!
//! Knows names and kinds of arguments in C's order. Must not know what the kernels compute, nor who uses them.

use super::kind::*;
use super::prelude::*;

aclnn! {
    matmul = aclnnMatmulGetWorkspaceSize, aclnnMatmul(self_: In, mat2: In, out: Out, cube_math_type: Tiny);
    mm = aclnnMmGetWorkspaceSize, aclnnMm(self_: In, mat2: In, out: Out, cube_math_type: Tiny);
    batch_matmul = aclnnBatchMatMulGetWorkspaceSize, aclnnBatchMatMul(self_: In, mat2: In, out: Out, cube_math_type: Tiny);
    addmm = aclnnAddmmGetWorkspaceSize, aclnnAddmm(self_: In, mat1: In, mat2: In, beta: Scalar, alpha: Scalar, out: Out, cube_math_type: Tiny);
    addmv = aclnnAddmvGetWorkspaceSize, aclnnAddmv(self_: In, mat: In, vec: In, alpha: Scalar, beta: Scalar, out: Out, cube_math_type: Tiny);
    addbmm = aclnnAddbmmGetWorkspaceSize, aclnnAddbmm(self_: In, batch1: In, batch2: In, beta: Scalar, alpha: Scalar, out: Out, cube_math_type: Tiny);
    baddbmm = aclnnBaddbmmGetWorkspaceSize, aclnnBaddbmm(self_: In, batch1: In, batch2: In, beta: Scalar, alpha: Scalar, out: Out, cube_math_type: Tiny);
    inplace_addmm = aclnnInplaceAddmmGetWorkspaceSize, aclnnInplaceAddmm(self_ref: In, mat1: In, mat2: In, beta: Scalar, alpha: Scalar, cube_math_type: Tiny);
    gemm = aclnnGemmGetWorkspaceSize, aclnnGemm(a: In, b: In, c: In, alpha: Float, beta: Float, trans_a: Int, trans_b: Int, out: Out, cube_math_type: Tiny);
    mv = aclnnMvGetWorkspaceSize, aclnnMv(self_: In, vec: In, out: Out, cube_math_type: Tiny);
    dot = aclnnDotGetWorkspaceSize, aclnnDot(self_: In, tensor: In, out: Out);
    ger = aclnnGerGetWorkspaceSize, aclnnGer(self_: In, vec2: In, out: Out);
    matmul_weight_nz = aclnnMatmulWeightNzGetWorkspaceSize, aclnnMatmulWeightNz(self_: In, mat2: In, out: Out, cube_math_type: Tiny);
    linalg_qr = aclnnLinalgQrGetWorkspaceSize, aclnnLinalgQr(self_: In, mode: Int, q: Out, r: Out);
    inverse = aclnnInverseGetWorkspaceSize, aclnnInverse(self_: In, out: Out);
    triangular_solve = aclnnTriangularSolveGetWorkspaceSize, aclnnTriangularSolve(self_: In, a: In, upper: Bool, transpose: Bool, unitriangular: Bool, x_out: Out, m_out: Out);
    thnn_fused_lstm_cell = aclnnThnnFusedLstmCellGetWorkspaceSize, aclnnThnnFusedLstmCell(input_gates: In, hidden_gates: In, cx_: In, input_bias_optional: OptionalIn, hidden_bias_optional: OptionalIn, hy_out: Out, cy_out: Out, storage_out: Out);
    thnn_fused_lstm_cell_backward = aclnnThnnFusedLstmCellBackwardGetWorkspaceSize, aclnnThnnFusedLstmCellBackward(grad_hy_optional: OptionalIn, grad_c_optional: OptionalIn, cx_: In, cy: In, storage: In, has_bias: Bool, grad_gates_out: Out, grad_cx_out: Out, grad_bias_out: Out);
}
