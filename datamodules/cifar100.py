"""CIFAR-100."""

from torchvision.datasets import CIFAR100

from .cifar import CIFAR10DataModule

_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
wolf woman worm
"""


class CIFAR100DataModule(CIFAR10DataModule):
    """60,000 colour images of 32x32 pixels in 100 classes (Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html).

    The labels are the fine ones. The files are in `data_dir/cifar-100-python`; options and errors are those of
    `TorchvisionDataModule`.
    """

    dataset, title = CIFAR100, "CIFAR-100"
    class_names = tuple(_NAMES.split())
    num_classes = 100
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)
