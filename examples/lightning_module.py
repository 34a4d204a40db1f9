"""Denoising as a Lightning callback: ``python examples/lightning_module.py``."""

import argparse
import copy
import logging
import warnings

import lightning
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torch_geometric.nn import GCN

import fastglt
from fastglt.data import csbm, load


class Classifier(lightning.LightningModule):
    """A GCN on one graph; a batch is a tensor of training nodes."""

    def __init__(self, graph):
        super().__init__()
        self.graph = graph  # the callback replaces it by the graph with the kept edges
        self.net = GCN(graph.num_features, 64, 2, int(graph.y.max()) + 1, dropout=0.5)

    def forward(self):
        return self.net(self.graph.x, self.graph.edge_index)

    def training_step(self, nodes, _):
        return F.cross_entropy(self()[nodes], self.graph.y[nodes])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01, weight_decay=5e-4)

    @torch.no_grad()
    def accuracy(self, mask):
        self.eval()
        correct = self().argmax(dim=-1) == self.graph.y
        self.train()  # called in the middle of training
        return float(correct[mask].float().mean())


class GradualDenoising(lightning.Callback):
    """Prunes a module's ``net`` and ``graph`` from ``start_epoch`` to the end of training."""

    def __init__(self, start_epoch, **settings):
        self.start_epoch = start_epoch
        self.settings = settings
        self.pruner = None

    def on_fit_start(self, trainer, module):
        self.init = copy.deepcopy(module.net.state_dict())  # what the ticket rewinds to

    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch != self.start_epoch:
            return
        epochs = trainer.max_epochs - self.start_epoch
        self.whole = module.graph
        self.pruner = fastglt.Denoiser(
            module.net,
            trainer.optimizers[0],  # its steps hold pruned weights at 0 from now on
            self.whole,
            steps=epochs * trainer.num_training_batches,
            init=self.init,
            **self.settings,
        )
        module.graph = self.pruner.data

    def on_train_batch_end(self, trainer, module, outputs, nodes, batch_idx):
        if self.pruner is None:
            return

        def score(edge_index, edge_weight):
            out = module.net(self.whole.x, edge_index, edge_weight)
            return F.cross_entropy(out[nodes], self.whole.y[nodes])

        # Lightning clears gradients just before the next backward pass: they are still there.
        self.pruner.step(score, metric=lambda: module.accuracy(self.whole.val_mask))
        module.graph = self.pruner.data


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--dataset", help="a name of the catalogue; by default a synthetic graph")
dataset = parser.parse_args().dataset
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")

lightning.seed_everything(0, verbose=False)
data = load(dataset).data if dataset else csbm(1000, homophily=0.6, feature_noise=4.0, seed=0)
module = Classifier(data)
denoising = GradualDenoising(start_epoch=5, edge_sparsity=0.3, weight_sparsity=0.8)
trainer = lightning.Trainer(
    max_epochs=30,
    accelerator="cpu",
    callbacks=[denoising],
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
nodes = data.train_mask.nonzero().flatten()
trainer.fit(module, DataLoader(nodes, batch_size=64, shuffle=True))

ticket = denoising.pruner.ticket()
print(ticket)
print(f"edge sparsity {ticket.edge_sparsity:.4f}, weight sparsity {ticket.weight_sparsity:.4f}")
print(f"search: val {ticket.metrics['val_search']:.6f}")
module.net, module.graph = ticket.apply(module.net, data)
print(f"ticket: val {module.accuracy(data.val_mask):.6f}")
print(f"ticket: test {module.accuracy(data.test_mask):.3f}")
