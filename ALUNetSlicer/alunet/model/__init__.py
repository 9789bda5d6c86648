"""nnU-Net v2, driven as an unmodified dependency: plan, preprocess, train on sparse slices, score,
embed, predict.

Modules that import torch or nnunetv2 are imported where they are used, so that ``import
alunet.model`` stays light. nnU-Net reads its folders from environment variables; they are set for
child processes only (`alunet.model.child`).
"""
