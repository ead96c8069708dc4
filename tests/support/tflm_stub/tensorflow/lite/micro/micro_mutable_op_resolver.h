// A stand-in for TFLite Micro: the methods that add its built-in operators, by the names that they
// have in its header of 2026. What was added is told to the interpreter.
#pragma once
#include <string>

#include "tensorflow/lite/micro/stub.h"

namespace tflite {
STUB_OPENS
class MicroOpResolver {
 public:
  std::string added;
  unsigned size = 0;
  unsigned count = 0;

 protected:
  TfLiteStatus Added(const char* name) {
    if (count == size) return kTfLiteError;
    ++count;
    added += std::string(added.empty() ? "" : " ") + name;
    return kTfLiteOk;
  }
};

#define ADDS(name) \
  TfLiteStatus Add##name() { return this->Added("Add" #name); }
template <unsigned int kSize>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
  MicroMutableOpResolver() { size = kSize; }
  ADDS(Abs) ADDS(Add) ADDS(AddN) ADDS(ArgMax) ADDS(ArgMin) ADDS(AssignVariable)
  ADDS(AveragePool2D) ADDS(BatchMatMul) ADDS(BatchToSpaceNd) ADDS(BroadcastArgs)
  ADDS(BroadcastTo) ADDS(CallOnce) ADDS(Cast) ADDS(Ceil) ADDS(Concatenation) ADDS(Conv2D)
  ADDS(Cos) ADDS(CumSum) ADDS(DepthToSpace) ADDS(DepthwiseConv2D) ADDS(Dequantize) ADDS(Div)
  ADDS(DynamicUpdateSlice) ADDS(EmbeddingLookup) ADDS(Elu) ADDS(Equal) ADDS(Exp)
  ADDS(ExpandDims) ADDS(Fill) ADDS(Floor) ADDS(FloorDiv) ADDS(FloorMod) ADDS(FullyConnected)
  ADDS(Gather) ADDS(GatherNd) ADDS(Greater) ADDS(GreaterEqual) ADDS(HardSwish) ADDS(If)
  ADDS(L2Normalization) ADDS(L2Pool2D) ADDS(LeakyRelu) ADDS(Less) ADDS(LessEqual) ADDS(Log)
  ADDS(LogicalAnd) ADDS(LogicalNot) ADDS(LogicalOr) ADDS(Logistic) ADDS(LogSoftmax)
  ADDS(Maximum) ADDS(MaxPool2D) ADDS(MirrorPad) ADDS(Mean) ADDS(Minimum) ADDS(Mul) ADDS(Neg)
  ADDS(NotEqual) ADDS(Pack) ADDS(Pad) ADDS(PadV2) ADDS(Prelu) ADDS(Quantize) ADDS(ReadVariable)
  ADDS(ReduceAll) ADDS(ReduceMax) ADDS(ReduceMin) ADDS(Relu) ADDS(Relu6) ADDS(Reshape)
  ADDS(ResizeBilinear) ADDS(ResizeNearestNeighbor) ADDS(ReverseV2) ADDS(Round) ADDS(Rsqrt)
  ADDS(SelectV2) ADDS(Shape) ADDS(Sin) ADDS(Slice) ADDS(Softmax) ADDS(SpaceToBatchNd)
  ADDS(SpaceToDepth) ADDS(Split) ADDS(SplitV) ADDS(Squeeze) ADDS(Sqrt) ADDS(Square)
  ADDS(SquaredDifference) ADDS(StridedSlice) ADDS(Sub) ADDS(Sum) ADDS(Svdf) ADDS(Tanh)
  ADDS(TransposeConv) ADDS(Transpose) ADDS(Unpack) ADDS(UnidirectionalSequenceLSTM)
  ADDS(VarHandle) ADDS(While) ADDS(ZerosLike)
};
#undef ADDS
STUB_CLOSES
}  // namespace tflite
