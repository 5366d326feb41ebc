"""Draw how the training went.

Outputs
-------
curves : PNG
    Loss, Dice and learning rate by epoch, with the best epoch marked.
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pathseg.figures import save_figure
from pathseg.logs import start_log
from pathseg.table_files import read_table

# Columns of the table.
HISTORY = ("epoch", "train_loss", "train_dice", "val_loss", "val_dice", "learning_rate")
TRAIN_COLOR, VAL_COLOR = "#0072B2", "#D55E00"


def draw_curves(history: pd.DataFrame) -> Figure:
    """Draw the columns of `history.tsv` over the epochs."""
    best = history.loc[history["val_dice"].idxmax()]
    figure = Figure(figsize=(13, 4))
    loss, dice, rate = figure.subplots(1, 3)
    for axes, what in ((loss, "loss"), (dice, "dice")):
        axes.plot(history["epoch"], history[f"train_{what}"], color=TRAIN_COLOR, label="training (augmented)")
        axes.plot(history["epoch"], history[f"val_{what}"], color=VAL_COLOR, label="validation")
    dice.plot(best["epoch"], best["val_dice"], "o", color=VAL_COLOR)
    dice.annotate(
        f"best: {best['val_dice']:.3f}\nepoch {best['epoch']:.0f}",
        (best["epoch"], best["val_dice"]),
        xytext=(-8, -14),
        textcoords="offset points",
        ha="right",
        va="top",
    )
    rate.plot(history["epoch"], history["learning_rate"], color="#666666")
    # The first epochs, before the averages of the weights have settled, may be so high that they flatten all others.
    settled = history["val_loss"].iloc[len(history) // 4 :]
    top, highest = 1.1 * max(history["train_loss"].max(), settled.max()), history["val_loss"].max()
    loss.set(title="Loss" if highest <= top else f"Loss (validation up to {highest:.1f} at first)", ylim=(0, top))
    loss.legend()
    dice.set(title="Mean Dice of the tiles", ylim=(min(0.5, history["val_dice"].min()), 1))
    rate.set(title="Learning rate", ylim=(0, None))
    for axes in (loss, dice, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


if __name__ == "__main__":
    log = start_log(snakemake.log[0])
    save_figure(draw_curves(read_table(snakemake.input.history, HISTORY)), snakemake.output.curves)
    log.info("%s: learning curves", snakemake.output.curves)
