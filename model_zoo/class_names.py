"""What the classes of the data sets that have a name are called, in the order of their labels."""

_FASHION = "t-shirt/top trouser pullover dress coat sandal shirt sneaker bag ankle_boot"
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle "
    "caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant "
    "flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man "
    "maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree "
    "plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train "
    "trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)

CLASS_NAMES: dict[str, tuple[str, ...]] = {
    name: tuple(word.replace("_", " ") for word in words.split())
    for name, words in {
        "fashion-mnist-sample": _FASHION,
        "fashion-mnist": _FASHION,
        "mnist": "0 1 2 3 4 5 6 7 8 9",
        "cifar10": _CIFAR10,
        "cifar100": _CIFAR100,
    }.items()
}
"""By the names of `DATASETS`; from github.com/zalandoresearch/fashion-mnist and www.cs.toronto.edu/~kriz/cifar.html."""
