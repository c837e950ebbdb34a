"""How good the student is: tasks, generated text, agreement with the teacher, and cost."""
