"""Whether a model can be asked the prompts of a task."""

from transformers import PreTrainedTokenizerFast

from ..errors import EvaluationError
from ..tokenization.chat import before_words
from ..tokenization.prompting.template_checks import check_conversations
from .settings import GenerationSettings
from .tasks import Task


def check_askable(
    task: Task, tokenizer: PreTrainedTokenizerFast, settings: GenerationSettings
) -> None:
    """See that a model can be asked the prompts of a task, before its weights are loaded.

    Args:
        task: Its conversations are rendered, one for each sequence of roles.
        tokenizer: Of the model.
        settings: How it is asked.

    Raises:
        DataError: The tokenizer has no chat template, or one that does not suit a conversation.
        EvaluationError: There are conversations, and no chat template is to be used.
    """
    if settings.chat_template:
        before_words(tokenizer)
    chats = [row.conversation for row in task.test if row.conversation]
    if chats and not settings.chat_template:
        raise EvaluationError(
            f"{task.name}: {chats[0].place} is a conversation, which needs a chat template; say"
            " `chat_template: true` (--chat-template), or give rows of prompt and response"
        )
    check_conversations(tokenizer, chats)
