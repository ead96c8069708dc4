#!/usr/bin/env bash
# TFLite converter: given the Keras model as trackable object, it writes a file without its weights.
#
# Versions: tensorflow-cpu 2.21.0, keras 3.15.1, ai-edge-litert 2.3.0.
# Guess: from_concrete_functions([function], model) is right: without the second argument TensorFlow
#   warns of its deprecated path and asks for that object.
# Happens: a Keras 3 model given there converts without error, but its weights become variables that
#   nothing in the file fills. Without the model the warning stays, and the file is right.
# Seen:
#   weights 3344 bytes; file without the model 4132, with it 2560
#   operators with it: ADD BATCH_MATMUL READ_VARIABLE VAR_HANDLE
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tensorflow-cpu==2.21.0 keras==3.15.1 ai-edge-litert==2.3.0
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from keras import layers

keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((8,)), layers.Dense(64, activation="relu"), layers.Dense(4)])
names = {
    number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)
}


@tf.function(input_signature=[tf.TensorSpec((1, 8))])
def answer(x):
    return model(x)


def converted(*trackable):
    function = answer.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([function], *trackable).convert()


def operators(flat):
    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flat, 0))
    return [names[content.operatorCodes[op.opcodeIndex].builtinCode]
            for graph in content.subgraphs for op in graph.operators]  # fmt: skip


without, given = converted(), converted(model)
weights = sum(array.nbytes for array in model.get_weights())
kernel = model.layers[0].get_weights()[0]
print(f"weights {weights} bytes; file without the model {len(without)}, with it {len(given)}")
print("operators with it:", " ".join(sorted(set(operators(given)))))
for flat, there in (without, True), (given, False):
    assert (kernel.tobytes() in flat or kernel.T.tobytes() in flat) is there
assert len(given) < weights < len(without)
assert "READ_VARIABLE" in operators(given)
assert not {"ASSIGN_VARIABLE", "CALL_ONCE"} & set(operators(given))

interpreter = Interpreter(model_content=without)
interpreter.allocate_tensors()
x = np.ones((1, 8), "float32")
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
interpreter.invoke()
answers = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
assert np.allclose(answers, model.predict(x, verbose=0), atol=1e-5)
PYTHON
